"""SIGKILL at any moment: the same command, again and again, ends in the state of an undisturbed run."""

import json
import random
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from real_runs import TINY, Command, evaluating, experiment, gone, lines, steps, until, untimed

from contrastive_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.command

MOMENTS = {
    "rendering": lambda run, cache: any(cache.glob("*")),
    "checkpoint commit": lambda run, cache: any((run / "checkpoints").glob(".*.partial")),
    "evaluation": lambda run, cache: evaluating(run, 12),
    "final report": lambda run, cache: (run / "report").exists(),
}


@pytest.mark.slow
def test_at_every_kind_of_moment(tmp_path, command, undisturbed):
    """In the order of MOMENTS, one kill a start, always the same command."""
    workdir, cache = tmp_path / "run", tmp_path / "cache"
    command = Command({**command.environment, "CONTRASTIVE_JAX_CACHE": str(cache)})
    for reached in MOMENTS.values():
        process = command.start(workdir)
        until(lambda reached=reached: reached(workdir, cache), process)
        process.kill()
        process.communicate()
    result = json.loads(command.run(workdir)[0].splitlines()[-1])
    assert untimed(workdir) == untimed(undisturbed)
    assert [line["step"] for line in lines(workdir)] == list(range(1, 25))
    want = json.loads((undisturbed / "result.json").read_text())
    assert result == {"workdir": str(workdir), **want}
    assert (workdir / "report" / "retrieval.png").stat().st_size > 10_000


def test_the_result_is_what_the_last_line_says(undisturbed):
    last = lines(undisturbed)[-1]
    result = json.loads((undisturbed / "result.json").read_text())
    assert result == {key: last[key] for key in result}
    assert "retrieval/text_to_image/R@5" in result


LONG = (*TINY, "steps=400", "checkpoint.every=3", "evaluation.every=50", "checkpoint.keep=3")
KILLS = 30


@pytest.mark.slow
def test_at_thirty_random_moments(tmp_path, command):
    """Of one run, with workers: while it starts, steps, writes checkpoints, evaluates and ends."""
    straight, workdir = tmp_path / "straight", tmp_path / "run"
    command.run(straight, tiny=LONG)
    moments = Moments(workdir, random.Random(4))
    for number in range(KILLS):
        process = command.start(workdir, "data.workers=1", tiny=LONG)
        moments.wait(number, process)
        assert process.poll() is None, process.communicate()[1]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert gone(process.pid)
        moments.note()
    command.run(workdir, "data.workers=1", tiny=LONG)
    print(*moments.found, sep="\n", file=sys.stderr)
    assert sum("writing" in found for found in moments.found) >= 5
    assert untimed(workdir) == untimed(straight)
    assert [line["step"] for line in lines(workdir)] == list(range(1, 401))
    assert steps(workdir) == steps(straight)
    for step in steps(workdir):
        same_arrays(workdir, straight, step)
    results = [json.loads((folder / "result.json").read_text()) for folder in (workdir, straight)]
    assert results[0] == results[1]


class Moments:
    """Random moments for kills: a kind and a delay, and what each kill fell into."""

    def __init__(self, workdir: Path, moments: random.Random) -> None:
        self.workdir, self.random, self.found = workdir, moments, []
        kinds = ["start"] * 6 + ["step"] * 8 + ["checkpoint"] * 9 + ["evaluation"] * 4
        self.random.shuffle(kinds)
        self.kinds = [*kinds, "last evaluation", "end", "end"]

    def wait(self, number: int, process) -> None:
        self.kind, self.began = self.kinds[number], time.time()
        self.wanted = max(steps(self.workdir), default=0) + self.random.randint(1, 9)
        delay = self.random.uniform(0, 8 if self.kind == "start" else 0.2)
        if self.kind != "start":
            until(self._reached, process, pause=0.001)
        time.sleep(delay)

    def note(self) -> None:
        """What was under way when the process was killed, as its folder shows."""
        hidden = sorted(
            entry.name
            for entry in (self.workdir / "checkpoints").glob(".*")
            if entry.stat().st_mtime > self.began  # older ones are of the process before
        )
        saved = max(steps(self.workdir), default=0)
        writing = f", writing {hidden}" if hidden else ""
        self.found.append(f"{self.kind}: step {self._done()}, saved {saved}{writing}")

    def _reached(self) -> bool:
        if self.kind == "end":
            return self._touched("report")
        if not self._touched("metrics.jsonl"):  # until then its lines are those of the process before
            return False
        if "evaluation" in self.kind:
            due = (400,) if "last" in self.kind else range(50, 400, 50)
            return any(evaluating(self.workdir, step) for step in due)
        writing = any((self.workdir / "checkpoints").glob(".*.partial"))
        return self._done() >= self.wanted and (writing or self.kind == "step")

    def _touched(self, name: str) -> bool:
        path = self.workdir / name
        return path.exists() and path.stat().st_mtime > self.began

    def _done(self) -> int:
        return max((line["step"] for line in lines(self.workdir)), default=0)


def same_arrays(one: Path, other: Path, step: int) -> None:
    target = experiment(*LONG).state_structure
    states = []
    for folder in (one, other):
        with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
            states.append(checkpoints.restore(target, step)[1])
    for x, y in zip(*map(jax.tree.leaves, states), strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
