"""Means over the rows that have a positive, and what they are where all embeddings are alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive_jax.losses.softmax import SoftmaxContrastive


def mean_cross_entropy(
    lse: Float[Array, " n"],
    target: Float[Array, " n"],
    mass: Float[Array, " n"],
    weights: Float[Array, " n"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The mean of lse_i - target_i / mass_i over the examples that have both, 0 where none has.

    An example without a target has no positive; one whose lse is -inf has nothing to be told from.
    weights: of the examples in the mean. The metrics are means over the same examples and carry no
    gradient: `positive_logit`, and `positive_probability`, exp of minus the cross-entropy.
    """
    has = (mass > 0) & ~jnp.isneginf(lse)
    positive_logit = jnp.where(has, target, 0) / jnp.where(has, mass, 1)
    entropy = jnp.where(has, lse, 0) - positive_logit
    share = has.astype(lse.dtype) if weights is None else jnp.where(has, weights, 0).astype(lse.dtype)
    share /= _nonzero(share.sum())
    metrics = {
        "positive_logit": (positive_logit * share).sum(),
        "positive_probability": (jnp.exp(-entropy) * share).sum(),
    }
    return (entropy * share).sum(), jax.lax.stop_gradient(metrics)


def softmax_at_chance(
    loss: SoftmaxContrastive, batch_size: int, sizes: Mapping[str, int] = {}
) -> float | None:
    """The mean logarithm of how many a row, and a column, is told from; None where more is added to some."""
    if loss.margin or loss.angular_margin or loss.own_negatives or loss.memory_labels or loss.guide:
        return None
    of_rows = sum(matrix.columns for matrix in loss.matrices(batch_size, sizes))
    seen = (of_rows, batch_size) if loss.symmetric else (of_rows,)
    return sum(math.log(max(count - loss.decoupled, 1)) for count in seen) / len(seen)


def _nonzero(x):
    return jnp.where(x == 0, 1, x)
