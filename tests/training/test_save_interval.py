"""How often a run saves, by steps and by the clock."""

import pytest

from contrastive_jax.errors import InputError
from contrastive_jax.training.save_interval import SaveInterval


class Time:
    seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.mark.parametrize(
    ("every", "steps", "minutes"),
    [(3, [3, 6, 9], None), (None, [500, 1000], 15), ("15min", [], 15), ("0.5 min", [], 0.5), ("2min", [], 2)],
)
def test_steps_minutes_or_whichever_comes_first(every, steps, minutes):
    time = Time()
    interval = SaveInterval(every, time)
    assert [step for step in range(1, max(steps, default=0) + 1) if interval.due(step)] == steps
    for _ in range(2):
        time.seconds += 60 * (minutes or 1e9) - 1
        assert not interval.late()
        time.seconds += 2
        assert interval.late() == (minutes is not None)
        interval.saved()


@pytest.mark.parametrize("every", [0, -3, "0min", "15", "min", "15 hours", "-1min", "", "nanmin", "1e9min"])
def test_what_is_no_interval_is_refused_by_name(every):
    with pytest.raises(InputError, match=r"config\.checkpoint\.every=.*: give a number of steps.* as 15min"):
        SaveInterval(every)
