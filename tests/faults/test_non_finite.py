"""A step whose loss is not a number."""

import math

import pytest
from real_runs import TINY, lines, message, steps

pytestmark = pytest.mark.command
# A rate that throws the parameters to infinity, after steps of the warm-up that are still finite.
TOO_FAST = (
    "optimizer.learning_rate=1e30",
    "optimizer.clip=None",
    "optimizer.warmup=0.5",
    "checkpoint.every=1",
)


@pytest.mark.slow
def test_it_is_named_and_nothing_of_it_is_kept(tmp_path, command):
    """The same command ends in the same way, from the last good checkpoint."""
    workdir = tmp_path / "run"
    first = message(command.run(workdir, *TOO_FAST, tiny=TINY, code=1)[1])
    assert "the run stops here and keeps its checkpoints up to step" in first
    assert "lower config.optimizer.learning_rate" in first
    good = steps(workdir)
    assert good
    assert f"step {good[-1] + 1}: " in first
    assert f"up to step {good[-1]}; with the weights of step {good[-1]} " in first
    before = lines(workdir)
    assert all(math.isfinite(line["loss"]) for line in before)
    assert [line["step"] for line in before] == list(range(1, good[-1] + 1))
    again = command.run(workdir, *TOO_FAST, tiny=TINY, code=1)[1]
    assert message(again) == first
    assert f"resuming from step {good[-1]}" in again
    assert steps(workdir) == good
