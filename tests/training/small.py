"""A small experiment for tests of the step: pictures and texts made up, one batch."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from contrastive_jax.configuration import build, load
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.training.experiment import Config, Experiment

CONFIGS = Path(__file__).parents[2] / "configs"


def experiment(name="glyphs.py:small", devices=1, **overrides) -> Experiment:
    pairs = [(key.replace("__", "."), str(value)) for key, value in overrides.items()]
    return Experiment(build(load(str(CONFIGS / name), pairs, Config), Config), jax.devices()[:devices])


def of_file(spec: str, devices=1, **overrides) -> Experiment:
    """An experiment of a config in this folder."""
    return experiment(Path(__file__).parent / spec, devices, **overrides)


def altered(run: Experiment, devices=1, **fields) -> Experiment:
    """The experiment with other entries of its config."""
    return Experiment(dataclasses.replace(run.config, **fields), jax.devices()[:devices])


def made_up_batch(experiment: Experiment, seed=0):
    rng, size = np.random.default_rng(seed), experiment.config.batch_size
    views = {}
    for name, view in experiment.graph.inputs(size).items():
        high = 255 if view.dtype == np.uint8 else 500
        views[name] = rng.integers(1, high, view.shape).astype(view.dtype)
    fields = {name: rng.integers(0, size, size).astype(np.int32) for name in experiment.fields}
    return jax.device_put({"views": views, "fields": fields}, by_example(experiment.mesh))


def read_in_pieces(experiment: Experiment, batch, readings=2):
    """What the pipeline gives out of core for a batch that is there whole."""
    parts = {name: jax.tree.map(np.asarray, batch[name]) for name in ("views", "fields")}
    for _ in range(readings):
        for rows in experiment.cut.rows():
            yield {**jax.tree.map(lambda x, rows=rows: x[rows], parts), "broken": 0}
