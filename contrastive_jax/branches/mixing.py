"""Two pictures as one: mixup, of a whole batch with its permutation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def mixed(first: Array, second: Array, partner: Int[Array, " B"], share: Float[Array, ""]) -> Array:
    """share x first + (1 - share) x second[partner], in their type; uint8 is rounded."""
    blend = share * first.astype(jnp.float32) + (1 - share) * second[partner].astype(jnp.float32)
    return (jnp.round(blend) if first.dtype == jnp.uint8 else blend).astype(first.dtype)
