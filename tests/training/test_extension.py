"""More steps than a run began with: what jumps, and what must not."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from contrastive_jax.branches import Teacher
from contrastive_jax.errors import InputError
from contrastive_jax.training import extension
from contrastive_jax.training.checks import check_schedule
from contrastive_jax.training.optimizer import AdamW


def run(teachers=(), **optimizer):
    config = SimpleNamespace(optimizer=AdamW(learning_rate=1.0, **optimizer), teachers=dict(teachers))
    return SimpleNamespace(config=config)


def rates(optimizer, steps, begun_with=None):
    schedule = optimizer.schedule(steps, begun_with)
    return np.array([float(schedule(step)) for step in range(steps)])


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [{"warmup": 0.2}, {"warmup_steps": 20}])
def test_a_warm_up_stays_where_it_was(decay, warmup):
    optimizer = AdamW(learning_rate=1.0, decay=decay, **warmup)
    for steps in (100, 200, 400):
        np.testing.assert_allclose(rates(optimizer, steps, 100)[:20], np.arange(20) / 20, atol=1e-6)


def test_a_constant_rate_cools_down():
    """By 1 - sqrt(t), arXiv 2405.18392."""
    by_share = AdamW(learning_rate=1.0, warmup=0.1, decay="constant", cooldown=0.2, final=0.1)
    found = rates(by_share, 100)
    np.testing.assert_allclose(found[10:80], 1)
    np.testing.assert_allclose(found[80:], 1 - 0.9 * np.sqrt(np.arange(20) / 20), rtol=1e-5)
    by_number = dataclasses.replace(by_share, cooldown=0.0, cooldown_steps=20)
    np.testing.assert_allclose(rates(by_number, 100), found)
    # The same up to the cool-down, however many steps there are: what was done stays valid.
    np.testing.assert_allclose(rates(by_number, 300, 100)[:80], found[:80])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cooldown": 0.2}, "wants decay='constant'"),
        ({"decay": "constant", "final": 1e-4}, "give a cooldown or another decay"),
        ({"decay": "constant", "cooldown": 1.5}, "or cooldown_steps"),
        ({"cooldown_steps": 5}, "^cooldown_steps=5 wants decay='constant'"),
        ({"decay": "constant", "cooldown": 0.2, "cooldown_steps": 5}, "give one of the two"),
        ({"warmup_steps": -1}, "0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        AdamW(**wrong)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"warmup_steps": 10}, "^config.optimizer.warmup_steps=10: give less than steps=10$"),
        (
            {"cooldown_steps": 20},
            "config.optimizer.cooldown_steps=20: 20 steps after a warm-up of 1 are more",
        ),
        ({"cooldown": 1.0}, "^config.optimizer.cooldown=1.0: 10 steps after a warm-up of 1 are more"),
        ({"warmup_steps": 6, "cooldown_steps": 5}, "5 steps after a warm-up of 6 are more than the run's 10"),
    ],
)
def test_a_schedule_that_the_run_would_cut_is_refused(given, told):
    config = SimpleNamespace(steps=10, optimizer=AdamW(decay="constant", **given))
    with pytest.raises(InputError, match=told):
        check_schedule(config)


@pytest.mark.parametrize(
    "given",
    [{"warmup_steps": 9, "decay": "cosine"}, {"warmup": 1.0}, {"warmup_steps": 4, "cooldown_steps": 6}],
)
def test_a_schedule_that_fits_the_run_exactly_is_taken(given):
    check_schedule(SimpleNamespace(steps=10, optimizer=AdamW(**{"decay": "constant"} | given)))


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_a_rate_that_fell_jumps_and_says_so(decay, caplog):
    extension.tell(run(decay=decay), [100, 200], 100)
    (line,) = caplog.messages
    assert "200 steps in place of 100: the learning rate goes from 0." in line
    assert "optimizer.decay='constant'" in line


def test_a_constant_rate_does_not_jump_before_its_cool_down(caplog):
    cooling = run(decay="constant", cooldown=0.2)
    extension.tell(cooling, [100, 200], 80)
    extension.tell(run(decay="constant"), [100, 200], 100)
    extension.tell(run(decay="cosine"), [100], 100)  # not extended
    extension.tell(run(decay="constant", warmup=0.5), [100, 200], 20)  # in the warm-up
    assert not caplog.messages
    extension.tell(cooling, [100, 200], 100)
    assert "put checkpoints after step 80 away first" in caplog.text


def test_a_teachers_momentum_jumps_too(caplog):
    teacher = Teacher("image", momentum=0.99, final=1.0)
    extension.tell(run({"slow": teacher}.items(), decay="constant"), [100, 200, 300], 200)
    assert "the momentum of teacher 'slow' from 1 to 0.99" in caplog.text


def test_the_steps_of_a_run_that_is_extended_again_and_again():
    assert extension.totals({}, None, 100) == [100]
    assert extension.totals({"steps": [100]}, 100, 100) == [100]
    assert extension.totals({"steps": [100]}, 200, 200) == [100, 200]  # killed before its first checkpoint
    assert extension.totals({"steps": [100, 200]}, 200, 300) == [100, 200, 300]
    assert extension.totals({}, 100, 200) == [100, 200]  # a checkpoint of an earlier version
