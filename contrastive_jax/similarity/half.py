"""float16 has few exponents: what is cast to it is first multiplied by a power of two, which is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

FARTHEST = 100  # so that both 2^k and 2^-k are float32


def is_half(leaf: Array) -> bool:
    return leaf.dtype == jnp.float16


def power(largest: Float[Array, ""], top: int) -> Float[Array, ""]:
    """2^k such that largest 2^k lies in [2^(top - 1), 2^top); 1 where largest is 0 or no number."""
    exponent = jnp.clip(top - jnp.frexp(largest)[1], -FARTHEST, FARTHEST)
    good = jnp.isfinite(largest) & (largest > 0)
    return jnp.ldexp(jnp.ones_like(largest), jnp.where(good, exponent, 0))


def power_of_matrix(x: Float[Array, "r c"], top: int) -> Float[Array, ""]:
    """`power` of the largest element."""
    return power(jnp.abs(x).max(), top)


def power_of_sums(*matrices: Float[Array, "r c"] | None) -> Float[Array, ""]:
    """`power` that leaves no row or column with absolute values that add up to more than 1."""
    absolute = sum(jnp.abs(x) for x in matrices if x is not None)
    return power(jnp.maximum(absolute.sum(0).max(), absolute.sum(1).max()), 0)
