"""A real run, killed at every kind of moment, gives the very losses of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.command

CONFIG = Path(__file__).parents[2] / "configs" / "glyphs.py"
OVERRIDES = [
    "--config.steps=20",
    "--config.batch_size=32",
    "--config.checkpoint.every=4",
    "--config.evaluation.every=10",
    "--config.logging.every=1",
]


def start(workdir: Path, environment: dict, *overrides, **keywords) -> subprocess.Popen:
    command = [
        sys.executable,
        "-c",
        "import sys; from contrastive_jax.cli import main; sys.exit(main())",
        "train",
    ]
    command += ["--config", f"{CONFIG}:small", "--workdir", str(workdir), "--json", *OVERRIDES, *overrides]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords
    )


def finish(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def lines(workdir: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def without_rates(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "pairs_per_second"} for row in rows]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One rendering of the glyphs and one compilation for all processes of this file."""
    folder = tmp_path_factory.mktemp("caches")
    return {
        **os.environ,
        "CONTRASTIVE_JAX_CACHE": str(folder / "glyphs"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_NUM_CPU_DEVICES": "2",
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, environment):
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    return workdir, finish(start(workdir, environment))


MOMENTS = {
    "rendering": lambda run, cache: any(cache.glob("*")),
    "first compile": lambda run, cache: (run / "tokenizer.json").exists(),
    "checkpoint commit": lambda run, cache: any((run / "checkpoints").glob(".*.partial")),
    "between two steps": lambda run, cache: len(lines(run)) >= 7,
    "evaluation": lambda run, cache: any(row["step"] == 10 for row in lines(run)),
    "later checkpoint": lambda run, cache: any((run / "checkpoints").glob(".16.partial")),
    "last evaluation": lambda run, cache: any(row["step"] == 20 for row in lines(run)),
    "final report": lambda run, cache: (run / "report").exists(),
}


def test_killed_at_every_kind_of_moment(tmp_path, environment, undisturbed):
    """SIGKILL in the order of MOMENTS, one kill a start, always the same command."""
    workdir = tmp_path / "run"
    environment = {**environment, "CONTRASTIVE_JAX_CACHE": str(tmp_path / "cache")}
    for moment, reached in MOMENTS.items():
        process = start(workdir, environment)
        while not reached(workdir, tmp_path / "cache"):
            assert process.poll() is None, f"ended before {moment}: {process.communicate()[1]}"
            time.sleep(0.002)
        if moment == "first compile":
            time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    result = finish(start(workdir, environment))
    want_dir, want = undisturbed
    assert without_rates(lines(workdir)) == without_rates(lines(want_dir))
    assert [row["step"] for row in lines(workdir)] == list(range(1, 21))
    assert {**result, "workdir": None} == {**want, "workdir": None}
    assert (workdir / "report" / "retrieval.png").stat().st_size > 10_000


def test_sigterm_to_the_group_saves_and_exits_75(tmp_path, environment, undisturbed):
    workdir = tmp_path / "run"
    process = start(workdir, environment, start_new_session=True)
    while len(lines(workdir)) < 5:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "SIGTERM: saved" in err
    done = len(lines(workdir))
    assert (workdir / "checkpoints" / str(done)).is_dir()  # not a step is lost
    assert done < 20
    finish(start(workdir, environment))
    assert without_rates(lines(workdir)) == without_rates(lines(undisturbed[0]))


@pytest.mark.slow
def test_sigterm_in_the_middle_of_a_step_out_of_core(tmp_path, environment):
    """The step that is under way is given up: the state before it is saved, at once."""
    huge = ("mode=out_of_core", "batch_size=4096", "microbatch=2", "steps=3", "data.sampler.repeat=True")
    process = start(tmp_path / "run", environment, *(f"--config.{text}" for text in huge))
    while not lines(tmp_path / "run"):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 75, err
    assert "SIGTERM: saved" in err
    assert [entry.name for entry in (tmp_path / "run" / "checkpoints").iterdir()] == ["1"]
    assert len(lines(tmp_path / "run")) == 1


def test_the_result_is_what_the_last_line_says(undisturbed):
    workdir, result = undisturbed
    last = lines(workdir)[-1]
    assert {k: v for k, v in result.items() if k != "workdir"} == {
        k: last[k] for k in result if k != "workdir"
    }
    assert (
        json.loads((workdir / "result.json").read_text())["retrieval/text_to_image/R@5"]
        == last["retrieval/text_to_image/R@5"]
    )
