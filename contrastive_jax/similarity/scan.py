"""One device: rows in blocks against columns in blocks, so that the largest thing that exists is a tile.

A step sees one tile: step(carry, rows, row_found, columns, column_found, kept) -> carry, row_found,
column_found, and what is to be kept of the tile. rows and columns are (Side, what is known of them
besides); what is found of them adds up from tile to tile. The steps themselves stand in `steps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

from contrastive_jax.similarity.tiles import Side

if TYPE_CHECKING:
    from jaxtyping import PyTree


def sweep(
    block: tuple[int, int],
    step: Callable,
    carry: PyTree,
    rows: tuple[Side, PyTree],
    row_found: PyTree,
    columns: tuple[Side, PyTree],
    column_found: PyTree,
    kept: PyTree = None,
) -> tuple[PyTree, PyTree, PyTree, PyTree]:
    """carry, row_found, column_found after `step` has seen every tile, and what it kept of each.

    rows, columns: with what is known of each besides. kept: [row blocks, column blocks, ...], what an
    earlier sweep over the same tiles kept.
    """
    sizes = rows[0].index.shape[0], columns[0].index.shape[0]
    row_blocks, row_found = _blocks(*rows, row_found, block[0])
    column_blocks, column_found = _blocks(*columns, column_found, block[1])

    def visit_rows(state, of_rows):
        carry, column_found = state
        rows, row_found, kept = of_rows

        def visit_columns(state, of_columns):
            columns, column_found, kept = of_columns
            carry, row_found, column_found, kept = step(state[0], rows, state[1], columns, column_found, kept)
            return (carry, row_found), (column_found, kept)

        (carry, row_found), (column_found, kept) = lax.scan(
            visit_columns, (carry, row_found), (column_blocks, column_found, kept)
        )
        return (carry, column_found), (row_found, kept)

    (carry, column_found), (row_found, kept) = lax.scan(
        visit_rows, (carry, column_found), (row_blocks, row_found, kept)
    )
    return carry, _joined(row_found, sizes[0]), _joined(column_found, sizes[1]), kept


def padded(tree: PyTree, filling: int) -> PyTree:
    """Repeats the last example `filling` times at the end of every leaf."""
    if not filling:
        return tree
    return jax.tree.map(
        lambda x: jnp.concatenate([x, jnp.broadcast_to(x[-1:], (filling, *x.shape[1:]))]), tree
    )


def _blocks(side: Side, known: PyTree, found: PyTree, block: int) -> tuple[tuple[Side, PyTree], PyTree]:
    """[n, ...] -> [blocks, block, ...]; the last block is filled by repeating the last example."""
    size = side.index.shape[0]
    block = min(block, size)
    filling = -size % block
    side, known, found = (padded(x, filling) for x in (side, known, found))
    if filling:
        side = side._replace(index=side.index.at[size:].set(-1))
    side, known, found = jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), (side, known, found))
    return (side, known), found


def _joined(tree: PyTree, size: int) -> PyTree:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], tree)
