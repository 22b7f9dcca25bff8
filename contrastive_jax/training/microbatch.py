"""Encoding a large batch a few examples at a time, with exactly the gradient of the large batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax

from contrastive_jax.distributed.mesh import batch_shards
from contrastive_jax.distributed.sharding import constrain

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


def encode(
    function: Callable[[Array, Key[Array, " b"]], Float[Array, "b H"]],
    view: Array,
    keys: Key[Array, " B"],
    microbatch: int | None,
) -> Float[Array, "B H"]:
    """function(view, keys), `microbatch` examples a device at a time.

    A scan over each device's own rows; activations are recomputed in the backward pass, so that only one
    microbatch's are alive. None encodes all at once and recomputes nothing. The batch must divide over
    the devices and these rows over `microbatch`.
    """
    shards = batch_shards()
    examples = len(keys)
    if microbatch is None or microbatch * shards == examples:
        return function(view, keys)
    count = examples // shards // microbatch
    if count * shards * microbatch != examples:
        raise ValueError(
            f"{examples} examples do not divide over {shards} devices x microbatches of {microbatch}"
        )

    def split(x):
        x = x.reshape(shards, count, microbatch, *x.shape[1:]).swapaxes(0, 1)
        x = x.reshape(count, shards * microbatch, *x.shape[3:])
        return x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else _by_example(x)

    encoded = jax.lax.map(lambda xs: jax.checkpoint(function)(*xs), (split(view), split(keys)))
    encoded = _by_example(encoded).reshape(count, shards, microbatch, -1).swapaxes(0, 1)
    return constrain(encoded.reshape(examples, -1), ("batch", None))


def _by_example(x: Array) -> Array:
    return constrain(x, (None, "batch", *(None,) * (x.ndim - 2)))
