"""One device: rows in blocks against columns in blocks, each reduction a step on one tile.

A sweep visits every tile once. Row states and column states are updated tile by tile, so the largest
thing that ever exists is one tile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from contrastive_jax.similarity.tiles import Scores, Side, Split, Tile, normalise

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree


class Problem(NamedTuple):
    """What is fixed while a program is traced: the tile, how its trees come apart, the blocks."""

    tile: Tile
    row_split: Split
    column_split: Split
    shared_split: Split
    diagonal: bool
    block: tuple[int, int]
    dtype: Any  # of the accumulators


class Statistics(NamedTuple):
    """What one side of `cross_entropy` knows of each of its n examples."""

    lse: Float[Array, " n"]
    target: Float[Array, " n"]
    mass: Float[Array, " n"]


def no_statistics(n: int, dtype) -> Statistics:
    return Statistics(jnp.full(n, -jnp.inf, dtype), jnp.zeros(n, dtype), jnp.zeros(n, dtype))


def statistics(
    problem: Problem, shared, rows: Side, row_state: Statistics, columns: Side, column_state: Statistics
):
    """Adds one block of columns to the statistics of the rows, and the rows to those of the columns."""

    def step(carry, rows, row_state, columns, column_state):
        scores = _scores(problem, shared, rows, columns)
        valid, logits, targets = _masked(problem, scores, rows.index, columns.index)
        weighted = jnp.where(targets != 0, targets * jnp.where(valid, logits, 0), 0)
        summands = _in_denominator(scores, logits)
        states = (
            Statistics(
                jnp.logaddexp(state.lse, jax.nn.logsumexp(summands, axis)),
                state.target + weighted.sum(axis),
                state.mass + targets.sum(axis),
            )
            for state, axis in ((row_state, 1), (column_state, 0))
        )
        return carry, *states

    _, row_state, column_state = _sweep(problem, step, None, rows, row_state, columns, column_state)
    return row_state, column_state


def statistics_gradient(
    problem: Problem, shared, gradient, rows: Side, row_state, columns: Side, column_state
):
    """The derivative of `statistics`, pulled back tile by tile.

    A state is (lse [n], cotangents: Statistics, gradients of the floating leaves so far);
    `gradient` is that of the floating leaves of `shared`. The weight of a pair,
    g_lse exp(l - lse) + g_target T, is summed in the accumulators' dtype before anything is cast.
    """

    def step(gradient, rows, row_state, columns, column_state):
        (row_lse, row_g, row_gradient), (column_lse, column_g, column_gradient) = row_state, column_state
        scores, pull = _scores_vjp(problem, shared, rows, columns)
        valid, logits, targets = _masked(problem, scores, rows.index, columns.index)
        g_target = row_g.target[:, None] + column_g.target[None, :]
        summands = _in_denominator(scores, logits)
        weight = row_g.lse[:, None] * jnp.exp(summands - _finite(row_lse)[:, None])
        weight += column_g.lse[None, :] * jnp.exp(summands - _finite(column_lse)[None, :])
        weight += g_target * targets
        finite = valid & jnp.isfinite(logits)
        g_mass = row_g.mass[:, None] + column_g.mass[None, :]
        target_weight = jnp.where(valid, g_target * jnp.where(finite, logits, 0) + g_mass, 0)
        pulled = pull(jnp.where(finite, weight, 0), target_weight)
        row_gradient, column_gradient, gradient = _add((row_gradient, column_gradient, gradient), pulled)
        return gradient, (row_lse, row_g, row_gradient), (column_lse, column_g, column_gradient)

    return _sweep(problem, step, gradient, rows, row_state, columns, column_state)


def total(problem: Problem, shared, carry: Float[Array, ""], rows: Side, columns: Side):
    """The sum of the tile's values over the pairs that take part, added to `carry`."""

    def step(carry, rows, row_state, columns, column_state):
        scores = _scores(problem, shared, rows, columns)
        valid = _valid(scores.mask, rows.index, columns.index)
        return carry + jnp.where(valid, scores.logits, 0).sum(dtype=problem.dtype), row_state, column_state

    return _sweep(problem, step, carry, rows, (), columns, ())[0]


def total_with_gradient(
    problem: Problem, shared, carry, rows: Side, row_gradient, columns: Side, column_gradient
):
    """`total` and all its gradients in one sweep; carry is (value, gradient of `shared`)."""

    def step(carry, rows, row_gradient, columns, column_gradient):
        value, gradient = carry
        scores, pull = _scores_vjp(problem, shared, rows, columns)
        valid = _valid(scores.mask, rows.index, columns.index)
        value += jnp.where(valid, scores.logits, 0).sum(dtype=problem.dtype)
        pulled = pull(valid.astype(problem.dtype), None)
        row_gradient, column_gradient, gradient = _add((row_gradient, column_gradient, gradient), pulled)
        return (value, gradient), row_gradient, column_gradient

    return _sweep(problem, step, carry, rows, row_gradient, columns, column_gradient)


class Best(NamedTuple):
    """The best columns of each row so far; an empty place has value -inf and the largest index."""

    values: Float[Array, "n k"]
    indices: Int[Array, "n k"]


def no_best(n: int, k: int, dtype) -> Best:
    return Best(jnp.full((n, k), -jnp.inf, dtype), jnp.full((n, k), jnp.iinfo(jnp.int32).max))


def top_k(problem: Problem, shared, rows: Side, best: Best, columns: Side) -> Best:
    """Merges one block of columns into the rows' best; of equal values the lower index comes first."""
    k = best.values.shape[1]

    def step(carry, rows, best, columns, column_state):
        scores = _scores(problem, shared, rows, columns)
        _, logits, _ = _masked(problem, scores, rows.index, columns.index)
        logits = jnp.where(logits == 0, 0, logits)  # -0.0 sorts below 0.0 and is no smaller
        values, places = lax.top_k(logits, min(k, logits.shape[1]))
        indices = jnp.where(values == -jnp.inf, jnp.iinfo(jnp.int32).max, columns.index[places])
        values = jnp.concatenate([best.values, values], axis=1)
        indices = jnp.concatenate([best.indices, indices], axis=1)
        values, indices = lax.sort((-values, indices), num_keys=2)
        return carry, Best(-values[:, :k], indices[:, :k]), column_state

    return _sweep(problem, step, None, rows, best, columns, ())[1]


def _sweep(problem: Problem, step: Callable, carry, rows: Side, row_state, columns: Side, column_state):
    """carry, row_state, column_state after `step` has seen every tile."""
    sizes = rows.index.shape[0], columns.index.shape[0]
    row_blocks = _blocks((rows, row_state), problem.block[0])
    columns, column_state = _blocks((columns, column_state), problem.block[1])

    def visit_rows(state, row_block):
        carry, column_state = state
        rows, row_state = row_block

        def visit_columns(state, column_block):
            carry, row_state, column_state = step(state[0], rows, state[1], *column_block)
            return (carry, row_state), column_state

        (carry, row_state), column_state = lax.scan(
            visit_columns, (carry, row_state), (columns, column_state)
        )
        return (carry, column_state), row_state

    (carry, column_state), row_state = lax.scan(visit_rows, (carry, column_state), row_blocks)
    return carry, _joined(row_state, sizes[0]), _joined(column_state, sizes[1])


def _blocks(side_and_state: tuple[Side, PyTree], block: int) -> tuple[Side, PyTree]:
    """[n, ...] -> [blocks, block, ...]; the last block is filled by repeating the last example."""
    side, state = side_and_state
    size = side.index.shape[0]
    block = min(block, size)
    filling = -size % block
    side, state = (padded(x, filling) for x in (side, state))
    if filling:
        side = side._replace(index=side.index.at[size:].set(-1))
    return jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), (side, state))


def padded(tree: PyTree, filling: int) -> PyTree:
    """Repeats the last example `filling` times at the end of every leaf."""
    if not filling:
        return tree
    return jax.tree.map(
        lambda x: jnp.concatenate([x, jnp.broadcast_to(x[-1:], (filling, *x.shape[1:]))]), tree
    )


def _joined(tree: PyTree, size: int) -> PyTree:
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], tree)


def _scores(problem: Problem, shared, rows: Side, columns: Side) -> Scores:
    scores = normalise(
        problem.tile(
            problem.row_split.together(rows.floating, rows.others),
            problem.column_split.together(columns.floating, columns.others),
            problem.shared_split.together(*shared),
        )
    )
    return scores._replace(logits=scores.logits.astype(problem.dtype))


def _scores_vjp(problem: Problem, shared, rows: Side, columns: Side):
    """The scores, and what pulls cotangents of logits and targets back to the floating leaves."""

    def scores_of(row_leaves, column_leaves, shared_leaves):
        scores = _scores(
            problem,
            (shared_leaves, shared[1]),
            rows._replace(floating=row_leaves),
            columns._replace(floating=column_leaves),
        )
        targets = scores.targets
        soft = targets is not None and jnp.issubdtype(targets.dtype, jnp.floating)
        outputs = scores.logits, targets.astype(problem.dtype) if soft else None
        return outputs, scores

    leaves = rows.floating, columns.floating, shared[0]
    (_, soft_targets), vjp, scores = jax.vjp(scores_of, *leaves, has_aux=True)
    return scores, lambda logits, targets: vjp((logits, None if soft_targets is None else targets))


def _masked(problem: Problem, scores: Scores, row_index, column_index):
    """valid [r, c], logits with -inf and targets with 0 where a pair takes no part."""
    valid = _valid(scores.mask, row_index, column_index)
    if problem.diagonal:
        targets = row_index[:, None] == column_index[None, :]
    else:
        targets = jnp.zeros((), bool) if scores.targets is None else scores.targets
    targets = jnp.where(valid, targets, 0).astype(problem.dtype)
    return valid, jnp.where(valid, scores.logits, -jnp.inf), targets


def _in_denominator(scores: Scores, logits):
    return logits if scores.denominator is None else jnp.where(scores.denominator, logits, -jnp.inf)


def _valid(mask, row_index, column_index):
    valid = (row_index >= 0)[:, None] & (column_index >= 0)[None, :]
    return valid if mask is None else valid & mask


def _finite(lse):
    """A row without any pair has lse -inf; l - lse must not become inf - inf."""
    return jnp.where(jnp.isneginf(lse), 0, lse)


def _add(sums: PyTree, terms: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), sums, terms)
