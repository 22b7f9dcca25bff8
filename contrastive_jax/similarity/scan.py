"""One device: rows in blocks against columns in blocks, so that the largest thing that exists is a tile.

A step sees one tile: step(carry, rows, row_found, columns, column_found, kept) -> carry, row_found,
column_found, and what is to be kept of the tile. rows and columns are (Side, what is known of them
besides); what is found of them adds up from tile to tile. The steps themselves stand in `steps`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

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
    rows, row_found, row_counts = _blocks(rows, row_found, block[0])
    columns, column_found, column_counts = _blocks(columns, column_found, block[1])

    def visit_rows(state, of_rows):
        carry, all_found, column_found = state
        i, kept = of_rows
        own = _block(rows, i, row_counts)

        def visit_columns(state, of_columns):
            carry, row_found, column_found = state
            j, kept = of_columns
            arguments = _block(columns, j, column_counts), _block(column_found, j, column_counts)
            carry, row_found, found, kept = step(carry, own, row_found, *arguments, kept)
            return (carry, row_found, _updated(column_found, found, j, column_counts)), kept

        (carry, row_found, column_found), kept = lax.scan(
            visit_columns,
            (carry, _block(all_found, i, row_counts), column_found),
            (jnp.arange(column_counts.blocks), kept),
        )
        return (carry, _updated(all_found, row_found, i, row_counts), column_found), kept

    (carry, row_found, column_found), kept = lax.scan(
        visit_rows, (carry, row_found, column_found), (jnp.arange(row_counts.blocks), kept)
    )
    return carry, *(_trimmed(*x) for x in ((row_found, row_counts), (column_found, column_counts))), kept


def padded(tree: PyTree, filling: int) -> PyTree:
    """Repeats the last example `filling` times at the end of every leaf."""
    if not filling:
        return tree
    return jax.tree.map(
        lambda x: jnp.concatenate([x, jnp.broadcast_to(x[-1:], (filling, *x.shape[1:]))]), tree
    )


class _Counts(NamedTuple):
    """examples in blocks of `size`"""

    examples: int
    size: int

    @property
    def blocks(self) -> int:
        return -(-self.examples // self.size)


def _blocks(side: tuple[Side, PyTree], found: PyTree, block: int) -> tuple[tuple, PyTree, _Counts]:
    """Filled up to whole blocks by repeating the last example, whose index says that it is padding."""
    (side, known), examples = side, len(side[0].index)
    counts = _Counts(examples, min(block, examples))
    filling = -examples % counts.size
    side, known, found = (padded(x, filling) for x in (side, known, found))
    if filling:
        side = side._replace(index=side.index.at[examples:].set(-1))
    return (side, known), found, counts


# Blocks are cut from whole arrays and put back in place: as inputs and outputs of a scan, what is found
# would stand in memory twice.


def _block(tree: PyTree, i, counts: _Counts) -> PyTree:
    if counts.blocks == 1:
        return tree
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, i * counts.size, counts.size), tree)


def _updated(tree: PyTree, block: PyTree, i, counts: _Counts) -> PyTree:
    if counts.blocks == 1:
        return block
    return jax.tree.map(lambda x, b: lax.dynamic_update_slice_in_dim(x, b, i * counts.size, 0), tree, block)


def _trimmed(tree: PyTree, counts: _Counts) -> PyTree:
    return jax.tree.map(lambda x: x[: counts.examples], tree)
