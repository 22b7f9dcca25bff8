"""Encoding a large batch a few examples at a time, with exactly the gradient of the large batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.distributed.mesh import batch_shards
from contrastive_jax.distributed.rows import local_rows
from contrastive_jax.distributed.sharding import constrain

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array, Float, Int, Int64, Key


def encode(
    function: Callable[[Array, Key[Array, " b"]], Float[Array, "b *K H"]],
    view: Array,
    keys: Key[Array, " B"],
    microbatch: int | None,
) -> Float[Array, "B *K H"]:
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
    shape = encoded.shape[2:]
    encoded = _by_example(encoded).reshape(count, shards, microbatch, *shape).swapaxes(0, 1)
    return constrain(encoded.reshape(examples, *shape), ("batch", *(None for _ in shape)))


@dataclass(frozen=True)
class Cut:
    """How a batch is cut into pieces: each holds the next `microbatch` examples of every device's share.

    So a piece that is sharded by example lies where its rows lie in the whole batch.
    """

    batch_size: int
    shards: int
    microbatch: int

    @property
    def count(self) -> int:
        """Pieces of a batch."""
        return self.batch_size // (self.shards * self.microbatch)

    def rows(self) -> Int64[np.ndarray, "count size"]:
        """The rows of the global batch in each piece."""
        rows = np.arange(self.batch_size).reshape(self.shards, self.count, self.microbatch)
        return rows.swapaxes(0, 1).reshape(self.count, -1)

    def local_rows(self, mesh: Mesh) -> Int64[np.ndarray, "count b"]:
        """Those of `rows` whose examples lie on this process's devices."""
        return self.rows()[:, local_rows(mesh, self.shards * self.microbatch)]

    def positions(self, piece: Int[Array, ""]) -> Int[Array, " size"]:
        """One row of `rows`, inside a program."""
        first = jnp.arange(self.shards)[:, None] * self.count + piece
        return (first * self.microbatch + jnp.arange(self.microbatch)).reshape(-1)

    def put(self, whole: Array, piece: Int[Array, ""], part: Float[Array, "size ..."]) -> Array:
        """`whole` [shards, count, microbatch, ...] with one piece written into it."""
        part = part.reshape(self.shards, 1, self.microbatch, *part.shape[1:])
        return jax.lax.dynamic_update_slice_in_dim(whole, part, piece, axis=1)

    def take(self, whole: Array, piece: Int[Array, ""]) -> Float[Array, "size ..."]:
        """The piece that `put` wrote."""
        part = jax.lax.dynamic_index_in_dim(whole, piece, axis=1, keepdims=False)
        return part.reshape(self.shards * self.microbatch, *part.shape[2:])


def _by_example(x: Array) -> Array:
    return constrain(x, (None, "batch", *(None,) * (x.ndim - 2)))
