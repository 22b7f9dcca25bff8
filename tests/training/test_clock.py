import pytest

from contrastive_jax.training.clock import KINDS, Clock


class Time:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


@pytest.fixture
def time():
    return Time()


def test_the_kinds_of_a_run_sum_to_its_wall_time(time):
    clock = Clock(time)
    time.passes(5)  # imports, restoring
    with clock.spent("input"):
        time.passes(1)
    time.passes(2)  # compiling
    for _ in range(2):
        with clock.spent("step"):
            time.passes(10)
        time.passes(0.5)
        with clock.spent("checkpoint"):
            time.passes(3)
    with clock.spent("evaluation"):
        time.passes(4)
    want = {"start": 7, "input": 1, "step": 20, "checkpoint": 6, "evaluation": 4, "other": 1, "repeated": 0}
    assert clock.seconds() == want
    assert sum(want.values()) == time.now - 100
    assert clock.goodput() == pytest.approx(20 / 39)


def test_a_span_inside_is_not_counted_outside(time):
    clock = Clock(time)
    with clock.spent("step"):
        time.passes(1)
        with clock.spent("input"):
            time.passes(2)
            with clock.spent("other"):
                time.passes(4)
        time.passes(8)
    seconds = clock.seconds()
    assert (seconds["step"], seconds["input"], seconds["other"]) == (9, 2, 4)


def test_a_span_may_turn_out_to_be_of_another_kind(time):
    """A wait for input behind which the device was at work is no wait."""
    clock = Clock(time)
    with clock.spent("input") as span:
        time.passes(3)
        span.kind = "step"
    assert clock.seconds() == {**dict.fromkeys(KINDS, 0), "step": 3}


def test_steps_that_are_done_again_are_not_goodput(time):
    clock = Clock(time)
    with clock.spent("repeated"):
        time.passes(6)
    with clock.spent("step"):
        time.passes(2)
    time.passes(1)
    assert clock.goodput() == pytest.approx(2 / 9)
    assert clock.seconds()["other"] == 1


def test_a_span_that_ends_in_an_error_is_counted(time):
    def fails():
        with clock.spent("checkpoint"):
            time.passes(2)
            raise OSError

    clock = Clock(time)
    with pytest.raises(OSError):
        fails()
    time.passes(1)
    assert clock.seconds() == {**dict.fromkeys(KINDS, 0), "checkpoint": 2, "start": 1}


def test_intervals_are_since_the_last_one_and_goodput_is_since_the_start(time):
    clock = Clock(time)
    time.passes(4)
    with clock.spent("step"):
        time.passes(4)
    first = clock.interval()
    assert set(first) == {"goodput", *(f"seconds/{kind}" for kind in KINDS)}
    assert (first["goodput"], first["seconds/start"], first["seconds/step"]) == (0.5, 4, 4)
    with clock.spent("evaluation"):
        time.passes(1)
        inside = clock.interval()
        time.passes(1)
    assert (inside["seconds/evaluation"], inside["seconds/step"]) == (1, 0)
    last = clock.interval()
    assert (last["goodput"], last["seconds/evaluation"], last["seconds/start"]) == (0.4, 1, 0)


def test_an_unknown_kind_is_refused_and_real_time_passes():
    clock = Clock()
    with pytest.raises(ValueError, match="'steps' is no kind of time"), clock.spent("steps"):
        pass
    assert clock.goodput() == 0
    assert sum(clock.seconds().values()) > 0


def test_what_a_run_does_now(time):
    clock = Clock(time)
    found = [clock.doing]
    with clock.spent("step"):
        found.append(clock.doing)
        with clock.spent("input"):
            found.append(clock.doing)
        found.append(clock.doing)
    found.append(clock.doing)
    assert found == ["start", "step", "input", "step", "other"]


def test_what_is_spent_ahead_belongs_to_the_next_interval(time):
    clock = Clock(time)
    time.passes(5)
    with clock.spent("step"):
        with clock.ahead(), clock.spent("input"):
            time.passes(1)
        time.passes(2)
        first = clock.interval()
        with clock.ahead():
            time.passes(4)
            with clock.spent("input"):
                time.passes(8)
        clock.caught_up()
        second = clock.interval()
    assert (first["seconds/start"], first["seconds/input"], first["seconds/step"]) == (5, 0, 2)
    assert (second["seconds/start"], second["seconds/input"], second["seconds/step"]) == (0, 9, 4)
    assert clock.interval() | {"goodput": 0} == {"goodput": 0} | {f"seconds/{kind}": 0 for kind in KINDS}
