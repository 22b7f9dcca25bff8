"""Normalisation by the statistics of the whole batch; they go in and come out, nothing is mutable."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class Moments(NamedTuple):
    """The mean and the variance (biased: over B, not B - 1) of every feature."""

    mean: Float[Array, " F"]
    variance: Float[Array, " F"]


def no_moments(features: int) -> Moments:
    """What stands for the running ones before the first batch: nothing is shifted or scaled."""
    return Moments(jnp.zeros(features, jnp.float32), jnp.ones(features, jnp.float32))


def batch_norm(
    x: Float[Array, "B F"],
    running: Moments,
    batch: Bool[Array, ""] | bool,
    momentum: float,
    epsilon: float,
) -> tuple[Float[Array, "B F"], Moments]:
    """(x - mean) / sqrt(variance + epsilon), and the running moments after this batch.

    batch: whether the moments are those of x over all its rows, wherever they lie, with gradient; the
    running ones, new = momentum old + (1 - momentum) batch, are then updated. Otherwise the running ones
    are used as they are, and a row's result does not depend on the other rows. The running variance is
    biased as well: with momentum 0 evaluation repeats the last batch exactly.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167.
    """
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    if batch is False:
        return (x - running.mean) * jax.lax.rsqrt(running.variance + epsilon), running
    mean = jnp.mean(x, axis=0)
    own = Moments(mean, jnp.mean((x - mean) ** 2, axis=0))
    used = Moments(*(jnp.where(batch, new, old) for new, old in zip(own, running)))
    updated = Moments(*(_moved(old, new, batch, momentum) for old, new in zip(running, own)))
    return (x - used.mean) * jax.lax.rsqrt(used.variance + epsilon), updated


def _moved(old: Array, new: Array, batch, momentum: float) -> Array:
    moved = momentum * old + (1 - momentum) * jax.lax.stop_gradient(new)
    return jnp.where(batch, moved, old).astype(old.dtype)
