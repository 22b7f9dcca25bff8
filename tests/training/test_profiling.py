import gzip
import json
import logging

import jax
import jax.numpy as jnp
import pytest

from contrastive_jax.errors import InputError
from contrastive_jax.training.profiling import Profiler, Window, parse_window


def run(profiler, first, last, ends_before=None):
    step = jax.jit(lambda x: x @ x / 100)
    x = jnp.ones((100, 100))
    for number in range(first, last):
        profiler.before(number)
        if number == ends_before:
            break
        x = step(x)
        profiler.after(number, x)
    profiler.close()


def traced(folder):
    """The steps in each format, from every trace in the folder."""
    perfetto, xplane = [], []
    for file in sorted(folder.glob("plugins/profile/*/*.trace.json.gz")):
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        perfetto += [int(e["args"]["step_num"]) for e in events if e.get("name") == "train"]
    for file in sorted(folder.glob("plugins/profile/*/*.xplane.pb")):
        planes = jax.profiler.ProfileData.from_file(str(file)).planes
        events = (event for plane in planes for line in plane.lines for event in line.events)
        xplane += [dict(e.stats)["step_num"] for e in events if e.name == "train"]
    return sorted(perfetto), sorted(xplane)


def test_a_window_is_parsed():
    assert parse_window("10:15") == Window(10, 15) == (10, 15)
    assert parse_window("0:1") == Window(0, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10", "give start:stop in steps, such as 10:15"),
        ("", "give start:stop"),
        ("a:b", "give start:stop"),
        ("1:2:3", "give start:stop"),
        ("-1:3", "give start:stop"),
        ("1.5:3", "give start:stop"),
        (":5", "give start:stop"),
        ("²:5", "give start:stop"),
        ("1:" + "9" * 5000, "give start:stop"),
        ("5:5", "holds no step: give a stop after the start, such as 5:10"),
        ("7:5", "such as 7:12"),
    ],
)
def test_a_window_that_is_none_is_refused(text, words):
    with pytest.raises(InputError) as raised:
        parse_window(text)
    assert str(raised.value).startswith(f"--profile={text}")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:builtin type event_stats:DeprecationWarning")
@pytest.mark.parametrize(
    ("window", "steps", "ends_before", "want"),
    [
        ((3, 6), (0, 8), None, [3, 4, 5]),
        ((0, 4), (2, 8), None, [2, 3]),  # resumed inside the window
        ((3, 20), (0, 6), None, [3, 4, 5]),
        ((3, 6), (0, 8), 4, [3, 4]),  # stopped in a step
    ],
)
def test_the_trace_holds_the_steps_of_the_window(tmp_path, window, steps, ends_before, want):
    run(Profiler(Window(*window), tmp_path / "profile"), *steps, ends_before)
    assert traced(tmp_path / "profile") == (want, want)


def test_nothing_is_traced_without_a_window_or_outside_it(tmp_path):
    for window in (None, Window(10, 12)):
        run(Profiler(window, tmp_path / "profile"), 0, 4)
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ((10, 12), "--profile=10:12: nothing to trace, this process does the steps 2:8"),
        ((0, 2), "nothing to trace"),
        ((5, 12), "--profile=5:12: only 5:8 is traced"),
        ((0, 4), "only 2:4 is traced"),
        ((2, 8), None),
        (None, None),
    ],
)
def test_a_window_outside_the_run_is_said_in_a_line(tmp_path, caplog, window, words):
    with caplog.at_level(logging.WARNING):
        Profiler(window and Window(*window), tmp_path).check(2, 8)
    assert [record.getMessage() for record in caplog.records if words is None] == []
    if words:
        assert words in caplog.text
        assert caplog.text.count("\n") == 1


def test_a_trace_that_cannot_be_written_ends_nothing(tmp_path, caplog, monkeypatch):
    (tmp_path / "file").touch()
    run(Profiler(Window(0, 2), tmp_path / "file" / "profile"), 0, 3)
    written = jax.profiler.stop_trace

    def disk_full():
        written()
        raise RuntimeError("RESOURCE_EXHAUSTED: no space left on device\nand more")

    monkeypatch.setattr(jax.profiler, "stop_trace", disk_full)
    run(Profiler(Window(0, 2), tmp_path / "profile"), 0, 3)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("no trace: ")
    assert "Not a directory" in messages[0]
    assert messages[1] == f"no trace in {tmp_path}/profile: RESOURCE_EXHAUSTED: no space left on device"
