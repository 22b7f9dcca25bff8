"""Data to measure on: made up, the same on every machine, and hard enough that gradients say something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32

    from contrastive_jax.training.experiment import Experiment

_SIBLINGS, _OWN, _VIEW = 8, 0.2, 0.4


def hard_negatives(
    batch: int, dim: int, seed: int = 0
) -> tuple[Float32[np.ndarray, "B d"], Float32[np.ndarray, "B d"]]:
    """Rows and columns of unit length, of which 8 neighbours are alike:

        normalise(cluster_{i // 8} + 0.2 item_i + 0.4 noise),  all three random and of unit length

    so that <row_i, column_i> is about 0.87, and 0.83 for the 7 others of the cluster: the loss is not
    near zero at any scale up to 100, as it would be of independent vectors.
    """
    rng = np.random.default_rng(seed)

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def directions(n):
        return unit(rng.standard_normal((n, dim), np.float32))

    clusters = np.repeat(directions(-(-batch // _SIBLINGS)), _SIBLINGS, axis=0)[:batch]
    items = clusters + _OWN * directions(batch)
    rows = unit(items + _VIEW * directions(batch))
    return rows, unit(items + _VIEW * directions(batch))


def made_up_batch(experiment: Experiment, seed: int = 0) -> dict[str, Any]:
    """A batch of the shapes and types that the config's views declare; every example a class of its own.

    Bytes are anything, whole numbers small (tokens of any vocabulary, and no padding), the rest normal.
    """
    rng, size = np.random.default_rng(seed), experiment.config.batch_size
    views = {}
    for name, view in experiment.config.data.views.items():
        structure = view.structure()
        shape = (size, *structure.shape)
        if np.issubdtype(structure.dtype, np.floating):
            views[name] = rng.standard_normal(shape, np.float32).astype(structure.dtype)
        else:
            high = 255 if structure.dtype == np.uint8 else 100
            views[name] = rng.integers(1, high, shape).astype(structure.dtype)
    return {"views": views, "fields": {name: np.arange(size, dtype=np.int32) for name in experiment.fields}}
