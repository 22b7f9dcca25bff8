"""How often an example's nearest of the batch is its own: what a loss near that of chance hides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from contrastive_jax.losses.pairs import Labels

_ROWS, _FEWEST, _NUMBERS = 256, 16, 1 << 24


def in_batch_accuracy(
    rows: Float[Array, "B d"], columns: Float[Array, "B d"], positives: Labels = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(the share of rows whose nearest column is a positive, the same for columns that are all alike).

    Of the first 256 rows, fewer in batches of over 65,536 examples: [rows, B] are 2^24 numbers at most, and a
    sixth of 256 / B of the work of a loss. Of columns that are equally near each counts in part. Without
    gradient. positives: as in `softmax_contrastive`.
    """
    # Rows are taken by their numbers: a slice of a sharded array is a message for every device.
    first = jnp.arange(min(len(rows), max(_FEWEST, min(_ROWS, _NUMBERS // len(columns)))))
    rows, columns = jax.lax.stop_gradient((rows, columns))
    exact = jnp.promote_types(rows.dtype, jnp.float32)
    dots = jnp.matmul(_taken(rows, first), columns.T, preferred_element_type=exact)
    nearest = dots == dots.max(axis=-1, keepdims=True)
    if positives is None:
        positives = jnp.arange(len(rows)), jnp.arange(len(columns))
    of_rows, of_columns = positives if isinstance(positives, tuple) else (positives, positives)
    right = _taken(of_rows, first)[:, None] == of_columns[None, :]
    share = (nearest & right).sum(axis=-1) / jnp.maximum(nearest.sum(axis=-1), 1)
    return share.mean(), right.mean()


def _taken(x: Array, numbers: Int[Array, " r"]) -> Array:
    return x.at[numbers].get(mode="clip")
