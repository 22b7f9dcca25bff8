"""Published methods in their small mode, on their real data."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.configuration import beside, build, load
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.loop import Run, Stopped

FOLDER = Path(__file__).parents[2] / "configs" / "methods"
METHODS = sorted(file.stem for file in FOLDER.glob("*.py"))
STEPS = 4


def method(name: str, arguments: str = "small", devices: int = 1, **overrides) -> Experiment:
    """The experiment of a config in configs/methods."""
    pairs = [(key.replace("__", "."), str(value)) for key, value in overrides.items()]
    spec = f"{FOLDER / name}.py" + (f":{arguments}" if arguments else "")
    return Experiment(build(load(spec, pairs, Config), Config), jax.devices()[:devices])


def check(name: str) -> dict:
    """What the config says of its check."""
    return beside(str(FOLDER / f"{name}.py"), f"{name}.py").CHECK


def small(name: str, devices: int = 8, **overrides) -> Experiment:
    """A run of a few steps that evaluates nothing."""
    run = method(name, devices=devices, steps=STEPS, logging__every=1, checkpoint__every=2, **overrides)
    return Experiment(dataclasses.replace(run.config, evaluation=None), run.mesh.devices.flatten())


class StopAfter(StopRequest):
    """Asks to stop once a run has logged so many steps."""

    def __init__(self, path: Path, steps: int):
        super().__init__()
        self._path, self._steps = path, steps

    @property
    def requested(self):
        file = self._path / "metrics.jsonl"
        return "SIGTERM" if file.exists() and len(file.read_text().splitlines()) >= self._steps else None


def losses(run: Experiment, path: Path, stop_after: int | None = None) -> list[float]:
    """The losses of a run; with stop_after it is stopped after so many steps, and started again."""
    path.mkdir(parents=True, exist_ok=True)  # what a command does before
    if stop_after:
        try:
            Run(run, path, StopAfter(path, stop_after))()
        except Stopped:
            pass
        else:
            raise AssertionError("it did not stop")
    Run(run, path, StopRequest())()
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line["loss"] for line in lines]


def microbatches(run: Experiment) -> int:
    """Examples a device encodes at once, so that there are several microbatches."""
    share = run.config.batch_size // run.mesh.size
    return next(n for n in range(share // 2, 0, -1) if share % n == 0)


def embeddings(run, seed=0, B=8):
    """Unit vectors for each branch of a run, and each of its stages."""
    rng, found = np.random.default_rng(seed), {}
    for name, branch in run.graph.branches.items():
        for stage in (name, *(f"{name}.{head}" for head in branch.heads)):
            z = rng.normal(size=(B, run.graph.width(stage)))
            found[stage] = jnp.asarray(z / np.linalg.norm(z, axis=1, keepdims=True), jnp.float32)
    return found


def weighed(run, z):
    """The weighted sum of a run's losses, as they begin, of embeddings; and each of them."""
    each = {name: loss(loss.init(), z, {}).value for name, loss in run.losses.items()}
    return sum(run.losses[name].weight * value for name, value in each.items()), each


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-4)
