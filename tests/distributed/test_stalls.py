"""A step that does not end: who notices, and who is behind."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.distributed.stalls import Judge, Pace, Report, behind, verdict


def name(indices):
    return f"process {', '.join(map(str, indices))} of 3"


def quiet(pace, seconds):
    """The last of looks every two seconds, in which nothing is finished."""
    for _ in range(int(seconds) // 2):
        report = pace.look(2.0)
    return report


@pytest.fixture
def pace():
    """One that has finished the first step, the 38th of its run, and is in the next one."""
    pace = Pace(60)
    pace.begin(37, lambda: "step")
    pace.finished(38)
    pace.look(2.0)
    return pace


def test_nothing_is_watched_before_the_first_step():
    assert Pace(60).look(1000.0) is None


def test_a_step_may_take_so_long(pace):
    assert not quiet(pace, 60).stalled
    report = quiet(pace, 2)
    assert report.stalled
    assert report.step == 39


def test_the_first_step_may_take_three_times_as_long():
    pace = Pace(60)
    pace.begin(0, lambda: "step")
    assert not quiet(pace, 180).stalled
    assert quiet(pace, 2).stalled


def test_long_steps_may_take_four_times_the_longest(pace):
    quiet(pace, 30)
    pace.finished(39)
    pace.look(2.0)
    assert pace.limit == 4 * 32
    assert not quiet(pace, 128).stalled
    assert quiet(pace, 2).stalled


def test_the_first_step_is_no_measure_of_the_others():
    pace = Pace(60)
    pace.begin(0, lambda: "step")
    quiet(pace, 170)
    pace.finished(1)
    pace.look(2.0)
    assert pace.limit == 60


def test_parts_of_a_step_count(pace):
    for _ in range(10):
        assert not quiet(pace, 40).stalled
        pace.finished()


@pytest.mark.parametrize("kind", ["start", "input", "checkpoint", "evaluation", "other"])
def test_what_is_no_step_may_take_any_time(kind):
    doing = ["step"]
    pace = Pace(60)
    pace.begin(0, lambda: doing[0])
    pace.finished(1)
    pace.look(2.0)
    quiet(pace, 50)
    doing[0] = kind
    assert not quiet(pace, 10_000).stalled
    doing[0] = "step"
    assert not quiet(pace, 60).stalled
    assert quiet(pace, 2).stalled
    pace.finished(2)
    pace.look(2.0)
    assert pace.limit < 60 * 5  # the long time was none of a step


WAITING = Report(37, 38, "step", True, "a.py:1 in f", True)
HANGING = Report(37, 38, "step", False, "hooks.py:12 in sleep", True)


def test_all_have_to_stand_still():
    judge = Judge()
    assert judge.stalled([WAITING, HANGING], 0.0, 60)
    saving = Report(37, 38, "checkpoint")
    for look in range(100):
        assert not judge.stalled([WAITING, saving._replace(looks=look)], 2.0 * look, 60)


def test_one_that_says_nothing_stands_still():
    judge, last = Judge(), Report(37, 38, "input", looks=7)
    assert not judge.stalled([WAITING, last], 0.0, 60)
    assert not judge.stalled([WAITING, last], 60.0, 60)
    assert judge.stalled([WAITING, last], 61.0, 60)


@pytest.mark.parametrize(
    ("reports", "late", "said"),
    [
        (
            [WAITING, WAITING, HANGING],
            [2],
            "process 2 of 3 has been at step 38 for 600 s (hooks.py:12 in sleep), the others wait for it",
        ),
        (
            [WAITING._replace(marks=38, step=39), WAITING, WAITING._replace(marks=38, step=39)],
            [1],
            "process 1 of 3 has been at step 38 for 600 s (a.py:1 in f), the others have finished step 38",
        ),
        (
            [HANGING, WAITING, HANGING],
            [0, 2],
            "process 0, 2 of 3 have been at step 38 for 600 s (hooks.py:12 in sleep), the others wait for it",
        ),
        (
            [WAITING, WAITING, WAITING],
            [0, 1, 2],
            "the processes have been at step 38 for 600 s, and none is behind the others (a.py:1 in f)",
        ),
    ],
)
def test_who_is_behind(reports, late, said):
    assert behind(reports) == late
    assert verdict(reports, 600.0, name) == said


def where(wait, release, inside=None):
    """The report on a thread that has been half a second in `wait`, or in what sets `inside`."""
    pace, began = Pace(60), threading.Event()

    def run():
        pace.begin(0, lambda: "step")
        began.set()
        wait()

    thread = threading.Thread(target=run)
    thread.start()
    (inside or began).wait()
    time.sleep(0.5)
    report = pace.look(2.0)
    release()
    thread.join()
    return report


def test_code_that_hangs_is_named():
    event = threading.Event()
    report = where(event.wait, event.set)
    assert not report.waits
    assert report.place.startswith("test_stalls.py:")
    assert report.place.endswith(" in run")


def test_a_callback_that_hangs_is_not_one_that_waits():
    event, inside = threading.Event(), threading.Event()

    def hang(x):
        inside.set()
        event.wait()
        return np.asarray(x)

    def call(x):
        return jax.pure_callback(hang, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    # Programs for several devices run in threads of their own.
    mesh = jax.make_mesh((8,), ("data",))
    rows = jax.device_put(jnp.ones((8,)), NamedSharding(mesh, P("data")))
    call = jax.jit(jax.shard_map(call, mesh=mesh, in_specs=P("data"), out_specs=P("data")))
    report = where(lambda: jax.device_get(call(rows)), event.set)
    assert not report.waits
    assert report.place.endswith(" in hang")
