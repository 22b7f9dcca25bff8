"""How often an example's nearest of the batch is its own: what a loss near that of chance hides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive_jax.losses.pairs import Labels

_ROWS, _FEWEST, _NUMBERS = 256, 16, 1 << 24


def in_batch_accuracy(
    rows: Float[Array, "B d"], columns: Float[Array, "B d"], positives: Labels = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(the share of rows whose nearest column is a positive, the same for columns that are all alike).

    Of the first 256 rows, fewer in batches of over 65,536 examples: [rows, B] are 2^24 numbers at most, and a
    sixth of 256 / B of the work of a loss. Without gradient. positives: as in `softmax_contrastive`.
    """
    count = min(len(rows), max(_FEWEST, min(_ROWS, _NUMBERS // len(columns))))
    dots = jax.lax.stop_gradient(rows[:count] @ columns.T)
    nearest = dots.argmax(axis=-1)
    if positives is None:
        return (nearest == jnp.arange(count)).mean(), jnp.full((), 1 / len(columns))
    of_rows, of_columns = positives if isinstance(positives, tuple) else (positives, positives)
    right = of_rows[:count, None] == of_columns[None, :]
    return jnp.take_along_axis(right, nearest[:, None], axis=1).mean(), right.mean()
