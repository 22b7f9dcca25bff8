"""Meshes of virtual devices, and the whole matrix that every reduction must equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from contrastive_jax.similarity import Sums

SHAPES = [
    (1,),
    (2, 2),
    (8,),
    pytest.param((2,), marks=pytest.mark.slow),
    pytest.param((2, 2, 2), marks=pytest.mark.slow),
]


def make_mesh(shape, axis_type=AxisType.Auto):
    names = ("data", "fsdp", "tensor")[: len(shape)]
    devices = jax.devices()[: int(np.prod(shape))]
    return jax.make_mesh(shape, names, axis_types=(axis_type,) * len(shape), devices=devices)


def whole_matrix(tile, rows, columns, shared) -> Sums:
    """cross_entropy by the definition, every pair at once."""
    scores = tile(rows, columns, shared)
    mask = jnp.ones(scores.logits.shape, bool) if scores.mask is None else scores.mask
    targets = jnp.where(mask, scores.targets, 0)
    counted = mask if scores.denominator is None else mask & scores.denominator
    logits = jnp.where(counted, scores.logits, -jnp.inf)
    weighted = jnp.where(targets != 0, targets * jnp.where(mask, scores.logits, 0), 0)
    return Sums(
        jax.nn.logsumexp(logits, 1),
        jax.nn.logsumexp(logits, 0),
        weighted.sum(1),
        weighted.sum(0),
        targets.sum(1),
        targets.sum(0),
    )


def relative_error(got, want) -> float:
    """The largest difference over all leaves, relative to the largest value of its leaf."""
    errors = [0.0]
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        assert np.array_equal(np.isfinite(a), np.isfinite(b))
        finite = np.isfinite(b)
        scale = max(np.abs(b[finite]).max(initial=0), 1e-30)
        errors.append(np.abs(a - b)[finite].max(initial=0) / scale)
    return max(errors)
