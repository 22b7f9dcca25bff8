"""What each device does for a reduction: its own rows against all columns, and what that gives of both.

Columns come in groups: the device's own share of the columns proper, then further ones, which either
travel as well or lie on every device. Nothing here is differentiated: derivatives are rings of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from contrastive_jax.similarity import steps, sweeps
from contrastive_jax.similarity.scores import Needs, wanted
from contrastive_jax.similarity.steps import Best, Mean, ShiftedSums, SideCotangents, Statistics
from contrastive_jax.similarity.sweeps import Job
from contrastive_jax.similarity.travel import Ring, added_up, meet, stacked, summed, varying

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

    from contrastive_jax.similarity.tiles import Side

REACH = 60.0  # exp(bound - shift): a sum of 2^30 such terms is still a float32
DEPTH = 40.0  # a sum below exp(-DEPTH) may have lost terms to the least float32


class Group(NamedTuple):
    """Columns, (Side, what is known of them), the sweep over them, and what is found of n at the start."""

    columns: tuple[Side, PyTree]
    sweep: Callable
    start: Callable[[int], PyTree] = lambda n: ()
    kept: PyTree = None
    home: Callable[[PyTree, Ring], PyTree] = added_up


def statistics(
    job: Job, keeps: bool, shared, bound, rows: Side, groups: Sequence[Side]
) -> tuple[tuple, tuple, Bool[Array, ""], PyTree]:
    """(Statistics, shifted sums) of rows and of columns, whether `bound` served, every tile's kept dots.

    bound: of the logits, or None. A sum of exponentials shifted by it may overflow or vanish; if any
    does, on any device, all are taken again with running maxima.
    """
    if bound is None:
        row, column = _with_maxima(job, shared, rows, groups)
        return (row, None), (column, None), jnp.array(False), None
    ring, shift = job.ring, bound - REACH
    sweep = sweeps.shifted_sums(job, shared, shift, keeps)
    row, column, kept = _of_rows_and_columns(job, sweep, steps.no_sums, rows, groups, added_up)
    row = summed(row, ring.spread)
    served = jnp.stack([_usable(row), _usable(column)]).all()
    if ring.all_axes:
        served = lax.pmin(varying(served.astype(jnp.int32), ring), ring.all_axes) == 1

    def shifted():
        return tuple(
            Statistics(jnp.where(side.tiles > 0, jnp.log(side.sum) + shift, -jnp.inf), *side[1:3])
            for side in (row, column)
        )

    found = lax.cond(served, shifted, lambda: _with_maxima(job, shared, rows, groups))
    return *zip(found, (row.sum, column.sum)), served, kept


def _usable(side: ShiftedSums) -> Bool[Array, ""]:
    fits = (side.sum > jnp.exp(-DEPTH)) & jnp.isfinite(side.sum)
    return (fits | (side.tiles == 0)).all()


def _with_maxima(job: Job, shared, rows: Side, groups: Sequence[Side]) -> tuple[Statistics, Statistics]:
    sweep = job.by_steps(steps.statistics(job.problem, shared))
    row, column, _ = _of_rows_and_columns(job, sweep, steps.no_statistics, rows, groups, _statistics_home)
    if job.ring.spread:
        sums = summed((row.target, row.mass), job.ring.spread)
        row = Statistics(jax.nn.logsumexp(stacked(row.lse, job.ring), 0), *sums)
    return row, column


def _statistics_home(found: Statistics, ring: Ring) -> Statistics:
    largest = lax.pmax(found.lse, ring.axes)
    finite = jnp.where(jnp.isfinite(largest), largest, 0)
    sums = added_up(found._replace(lse=jnp.exp(found.lse - finite)), ring)
    own = lax.dynamic_slice_in_dim(finite, lax.axis_index(ring.axes) * len(sums.lse), len(sums.lse))
    return sums._replace(lse=jnp.log(sums.lse) + own)


def _of_rows_and_columns(job: Job, sweep, start, rows: Side, groups: Sequence[Side], home):
    start = partial(start, dtype=job.problem.dtype)
    met = [Group((side, None), sweep, start, home=home) for side in groups[:1]]
    met += [Group((side, None), sweep, lambda n: None) for side in groups[1:]]
    _, row, columns, kept = _meet_all(job, None, (rows, None), start(len(rows.index)), met)
    return row, columns[0], kept


def statistics_gradient(
    job: Job, needs: Sequence[Needs], shared, bound, served, rows: Side, row_state, column_state, groups, kept
):
    """Gradients of the floating leaves: of shared, of the rows, and of each group of columns.

    A state is ((log-sum-exps, shifted sums), cotangents: Statistics), of rows and of the first group.
    needs: by group.
    """

    def run(shift, kept):
        row, column = (_cotangents(state, shift) for state in (row_state, column_state))
        sides = [column] + [None] * (len(groups) - 1)
        by_group = [sweeps.statistics_gradient(job, need, shared, shift) for need in needs]
        gradient = wanted(shared[0], needs[0].shared, job.problem.dtype)
        return _gradients(job, needs, by_group, gradient, (rows, row), zip(groups, sides), kept)

    if bound is None:
        return run(None, None)
    return lax.cond(served, lambda: run(bound - REACH, kept), lambda: run(None, None))


def _cotangents(state: tuple[tuple, Statistics], shift) -> SideCotangents:
    (lse, total), g = state
    # by the sum, not exp(shift - lse): the logarithm of a large number has few digits after the point
    factor = g.lse if shift is None else jnp.where(total > 0, g.lse / total, 0)
    return SideCotangents(factor, lse, g.target, g.mass)


def total(job: Job, shared, rows: Side, groups: Sequence[Side]) -> Float[Array, ""]:
    """The sum of the tile's values over the pairs of all devices."""
    sweep = sweeps.total(job, shared)
    value = jnp.zeros((), job.problem.dtype)
    value, *_ = _meet_all(job, value, (rows, None), (), [Group((side, None), sweep) for side in groups])
    return summed(value, job.ring.all_axes)


def total_with_gradient(job: Job, needs: Sequence[Needs], shared, rows: Side, groups: Sequence[Side]):
    """((`total`, gradient of shared), of the rows, of each group), in one round."""
    by_group = [sweeps.total_with_gradient(job, need, shared) for need in needs]
    dtype = job.problem.dtype
    carry = jnp.zeros((), dtype), wanted(shared[0], needs[0].shared, dtype)
    return _gradients(job, needs, by_group, carry, (rows, None), ((side, None) for side in groups), None)


def expectation(job: Job, shared, rows: Side, groups: Sequence[Side]) -> Mean:
    """Each row's softmax-weighted mean of the tile's values over the columns of all devices."""
    sweep = job.by_steps(steps.expectation(job.problem, shared))
    start = steps.no_mean(len(rows.index), job.problem.dtype)
    met = [Group((side, None), sweep) for side in groups]
    _, row, *_ = _meet_all(job, None, (rows, None), start, met)
    if not job.ring.spread:
        return row
    everyone = stacked(row, job.ring)
    lse = jax.nn.logsumexp(everyone.lse, 0)
    share = jnp.where(jnp.isneginf(everyone.lse), 0, jnp.exp(everyone.lse - lse))
    return Mean(lse, (share * everyone.mean).sum(0))


def expectation_gradient(
    job: Job, needs: Sequence[Needs], weights_gradient: bool, shared, rows: Side, row_state, groups
):
    """Gradients as in `statistics_gradient`; row_state is (Mean, its cotangent)."""
    by_group = [
        job.by_steps(steps.expectation_gradient(job.problem, need, shared, weights_gradient))
        for need in needs
    ]
    gradient = wanted(shared[0], needs[0].shared, job.problem.dtype)
    sides = ((side, None) for side in groups)
    return _gradients(job, needs, by_group, gradient, (rows, row_state), sides, None)


def top_k(job: Job, k: int, shared, rows: Side, groups: Sequence[Side]) -> Best:
    """The k best columns of all devices for each of this device's rows."""
    sweep = job.by_steps(steps.top_k(job.problem, shared, k))
    start = steps.no_best(len(rows.index), k, job.problem.dtype)
    met = [Group((side, None), sweep) for side in groups]
    _, best, *_ = _meet_all(job, None, (rows, None), start, met)
    if not job.ring.spread:
        return best
    everyone = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(len(x[0]), -1), stacked(best, job.ring))
    return steps.better(steps.no_best(len(rows.index), k, job.problem.dtype), everyone)


def _gradients(job: Job, needs, by_group, carry, rows, sides, kept):
    """Meets every group with its sweep, which adds gradients to (carry, of the rows, of the columns)."""
    dtype, ring = job.problem.dtype, job.ring

    def start(n, side, need):
        shapes = [jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype) for x in side.floating]
        return wanted(shapes, need.columns, dtype)

    kept = kept or [None] * len(needs)
    groups = [
        Group(columns, sweep, partial(start, side=columns[0], need=need), own)
        for columns, sweep, need, own in zip(sides, by_group, needs, kept)
    ]
    row = wanted(rows[0].floating, needs[0].rows, dtype)
    carry, row, columns, _ = _meet_all(job, carry, rows, row, groups)
    columns = [found if travels else summed(found, ring.axes) for found, travels in zip(columns, job.travels)]
    return summed(carry, ring.all_axes), summed(row, ring.spread), columns


def _meet_all(
    job: Job, carry, rows: tuple[Side, PyTree], row_found, groups: Sequence[Group]
) -> tuple[Any, Any, list, list]:
    """carry, what is found of the rows and of each group of columns, and what was kept of each group."""
    carry, row_found = varying((carry, row_found), job.ring)
    of_columns, all_kept = [], []
    for group, travels in zip(groups, job.travels):

        def visit(found, columns, column_found, kept, sweep=group.sweep):
            carry, row_found, column_found, kept = sweep(
                found[0], rows, found[1], columns, column_found, kept
            )
            return (carry, row_found), column_found, kept

        start, found = group.start, (carry, row_found)
        (carry, row_found), column_found, kept = meet(
            visit, found, group.columns, start, job.ring, group.kept, travels, group.home
        )
        of_columns.append(column_found)
        all_kept.append(kept)
    return carry, row_found, of_columns, all_kept
