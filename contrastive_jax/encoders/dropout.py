"""Dropout and stochastic depth that draw by example.

Each example brings its own key, so what is dropped of it depends neither on the other examples of
its batch, nor on its place there, nor on microbatches or the mesh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


def fold(keys: Key[Array, "B"] | None, index: int | Array) -> Key[Array, "B"] | None:
    """New keys for a layer or a place inside it; None stays None."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)


def dropout(
    x: Float[Array, "B ..."], rate: float | Array, keys: Key[Array, "B"] | None
) -> Float[Array, "B ..."]:
    """Zero each element with probability `rate` and divide the rest by `1 - rate` (Srivastava et al. 2014).

    Args:
        x: anything with the example axis first.
        rate: the probability; 0 does nothing.
        keys: a key an example; None does nothing.
    """
    return _drop(x, rate, keys, x.shape[1:])


def drop_path(
    x: Float[Array, "B ..."], rate: float | Array, keys: Key[Array, "B"] | None
) -> Float[Array, "B ..."]:
    """Zero a residual branch of a whole example with probability `rate` (Huang et al. 2016)."""
    return _drop(x, rate, keys, (1,) * (x.ndim - 1))


def _drop(x: Array, rate: float | Array, keys: Array | None, shape: tuple[int, ...]) -> Array:
    if keys is None or (isinstance(rate, (int, float)) and rate == 0):
        return x
    kept = 1.0 - jnp.asarray(rate, jnp.float32)
    mask = jax.vmap(lambda key: jax.random.bernoulli(key, kept, shape))(keys)
    return jnp.where(mask, x / kept.astype(x.dtype), jnp.zeros((), x.dtype))
