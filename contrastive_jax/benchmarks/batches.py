"""Data to measure on: made up, the same on every machine, and hard enough that gradients say something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32

    from contrastive_jax.training.experiment import Experiment

_SIBLINGS, _OWN, _VIEW, _BLOCK = 8, 0.2, 0.4, 4096


def hard_negatives(
    batch: int, dim: int, seed: int = 0
) -> tuple[Float32[np.ndarray, "B d"], Float32[np.ndarray, "B d"]]:
    """Rows and columns of unit length, of which 8 neighbours are alike:

        normalise(cluster_{i // 8} + 0.2 item_i + 0.4 noise),  all three random and of unit length

    so that <row_i, column_i> is about 0.87, and 0.83 for the 7 others of the cluster: the loss is not
    near zero at any scale up to 100, as it would be of independent vectors. A smaller batch is the
    beginning of a larger one.
    """
    rows, columns = (np.empty((batch, dim), np.float32) for _ in range(2))
    for start in range(0, batch, _BLOCK):
        at = slice(start, min(start + _BLOCK, batch))
        rng = np.random.default_rng((seed, start))
        clusters = np.repeat(_directions(rng, _BLOCK // _SIBLINGS, dim), _SIBLINGS, axis=0)
        items = clusters + _OWN * _directions(rng, _BLOCK, dim)
        for side in (rows, columns):
            noisy = items + _VIEW * _directions(rng, _BLOCK, dim)
            side[at] = _unit(noisy)[: at.stop - start]
    return rows, columns


def _directions(rng: np.random.Generator, count: int, dim: int) -> Float32[np.ndarray, "n d"]:
    return _unit(rng.standard_normal((count, dim), np.float32))


def _unit(x: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def made_up_batch(experiment: Experiment, seed: int = 0) -> dict[str, Any]:
    """A batch of the shapes and types that the config's views declare; every example a class of its own.

    Bytes are anything, whole numbers small (tokens of any vocabulary, and no padding), the rest normal.
    """
    rng, size = np.random.default_rng(seed), experiment.config.batch_size
    views = {}
    for name, view in experiment.graph.inputs(size).items():
        if np.issubdtype(view.dtype, np.floating):
            views[name] = rng.standard_normal(view.shape, np.float32).astype(view.dtype)
        else:
            high = 255 if view.dtype == np.uint8 else 100
            views[name] = rng.integers(1, high, view.shape).astype(view.dtype)
    return {"views": views, "fields": {name: np.arange(size, dtype=np.int32) for name in experiment.fields}}
