"""Real runs of the command, to be disturbed: short, of a tiny model, each step with a line of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax

from contrastive_jax.configuration import build, load
from contrastive_jax.training.experiment import Config, Experiment

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = (
    "steps=24",
    "batch_size=16",
    "checkpoint.every=4",
    "logging.every=1",
    "evaluation.every=12",
    "evaluation.batch_size=64",
    "encoders.text.depth=1",
    "encoders.image.depth=1",
)
# What depends on the clock; everything else in a line is a function of the config and the step.
TIMED = ("pairs_per_second", "flops_per_second", "mfu", "goodput", "seconds/")


class Command:
    """`contrastive-jax train` in processes of their own, which share one rendering and one compilation."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def start(self, workdir: Path, *overrides, config="glyphs.py:small", tiny=TINY, more=(), **keywords):
        arguments = ["--config", f"{CONFIGS}/{config}", "--workdir", str(workdir), "--json"]
        arguments += [f"--config.{text}" for text in (*tiny, *overrides)]
        program = Path(sys.executable).with_name("contrastive-jax")
        return subprocess.Popen(
            [program, "train", *arguments, *more],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **keywords,
        )

    def run(self, workdir: Path, *overrides, code=0, timeout=240, **keywords) -> tuple[str, str]:
        """Runs to the end: (stdout, stderr)."""
        return ended(self.start(workdir, *overrides, **keywords), code, timeout)


def experiment(*overrides, config="glyphs.py:small") -> Experiment:
    """What such a run trains, in this process."""
    pairs = [tuple(text.split("=")) for text in overrides]
    return Experiment(build(load(f"{CONFIGS}/{config}", pairs, Config), Config), jax.devices()[:1])


def ended(process: subprocess.Popen, code=0, timeout=240) -> tuple[str, str]:
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, err
    assert "Traceback" not in err, err
    return out, err


def message(err: str, last=True) -> str:
    """The one line that the command itself ends with; with `last` nothing comes after it."""
    told = [line for line in err.splitlines() if line.startswith("contrastive-jax: ")]
    assert len(told) == 1, err
    assert not last or err.endswith(f"{told[0]}\n"), err
    return told[0]


def until(reached, process: subprocess.Popen, seconds=240, pause=0.002) -> None:
    """Waits for `reached()` while the process runs."""
    begin = time.monotonic()
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - begin < seconds
        time.sleep(pause)


def lines(workdir: Path) -> list[dict]:
    """The lines so far; none while one is being written."""
    try:
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def untimed(workdir: Path) -> list[dict]:
    return [
        {key: value for key, value in line.items() if not key.startswith(TIMED)} for line in lines(workdir)
    ]


def evaluating(workdir: Path, step: int) -> bool:
    """Whether the evaluation after a step is under way: its line is there without the figures."""
    return any(line["step"] == step and "scripts/accuracy" not in line for line in lines(workdir))


def steps(workdir: Path) -> list[int]:
    """The checkpoints that can be seen."""
    names = (entry.name for entry in (workdir / "checkpoints").glob("[0-9]*"))
    return sorted(int(name) for name in names)


def workers(process: subprocess.Popen) -> set[int]:
    """The data workers of a run that is the first of its session."""
    found = set()
    for pid in members(process.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command:
            found.add(pid)
    return found


def members(group: int) -> set[int]:
    """Processes of a group that still run."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.add(int(entry))
    return found


def gone(group: int, seconds=10) -> bool:
    """Whether a group of processes is gone, or ends by itself soon."""
    begin = time.monotonic()
    while members(group) and time.monotonic() - begin < seconds:
        time.sleep(0.02)
    return not members(group)
