"""Many devices: the rows stay where they are, the columns travel round the mesh.

What is known of the columns so far (sums, gradients) travels with them and is home after as many hops
as there are devices. Nothing here is differentiated: derivatives are rings of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from contrastive_jax.similarity import scan
from contrastive_jax.similarity.scan import Best, Problem, Statistics
from contrastive_jax.similarity.tiles import Side

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PyTree

UNROLLED_HOPS = 16  # beyond it a loop: a pod of a thousand chips would compile a thousand copies


class Ring(NamedTuple):
    """The mesh axes that the examples lie on, as one circle; the last axis is the near one."""

    axes: tuple[str, ...]
    size: int


def statistics(
    problem: Problem, ring: Ring, shared, rows: Side, columns: Side
) -> tuple[Statistics, Statistics]:
    """The statistics of this device's rows and columns against those of all devices."""
    row_state, column_state = (
        varying(scan.no_statistics(len(side.index), problem.dtype), ring) for side in (rows, columns)
    )

    def visit(row_state, columns, column_state):
        return scan.statistics(problem, shared, rows, row_state, columns, column_state)

    return travel(visit, row_state, columns, column_state, ring)


def statistics_gradient(
    problem: Problem, ring: Ring, shared, rows: Side, row_state, columns: Side, column_state
):
    """Gradients of the floating leaves (shared, rows, columns); a state is (lse, cotangents)."""
    shared_sums, row_sums, column_sums = _accumulators(problem, ring, shared, rows, columns)

    def visit(carry, travelling, column_sums):
        columns, column_state = travelling
        shared_sums, (*_, row_sums), (*_, column_sums) = scan.statistics_gradient(
            problem, shared, carry[0], rows, (*row_state, carry[1]), columns, (*column_state, column_sums)
        )
        return (shared_sums, row_sums), column_sums

    carry = shared_sums, row_sums
    (shared_sums, row_sums), column_sums = travel(visit, carry, (columns, column_state), column_sums, ring)
    return summed(shared_sums, ring), row_sums, column_sums


def total(problem: Problem, ring: Ring, shared, rows: Side, columns: Side) -> Float[Array, ""]:
    """The sum of the tile's values over the pairs of all devices."""

    def visit(value, columns, partial):
        return scan.total(problem, shared, value, rows, columns), partial

    start = varying(jnp.zeros((), problem.dtype), ring)
    return summed(travel(visit, start, columns, (), ring)[0], ring)


def total_with_gradient(problem: Problem, ring: Ring, shared, rows: Side, columns: Side):
    """((`total`, gradient of shared), gradient of rows, gradient of columns), in one round."""
    shared_sums, row_sums, column_sums = _accumulators(problem, ring, shared, rows, columns)

    def visit(carry, columns, column_sums):
        carry, row_sums, column_sums = scan.total_with_gradient(
            problem, shared, carry[0], rows, carry[1], columns, column_sums
        )
        return (carry, row_sums), column_sums

    carry = (varying(jnp.zeros((), problem.dtype), ring), shared_sums), row_sums
    (sums, row_sums), column_sums = travel(visit, carry, columns, column_sums, ring)
    return summed(sums, ring), row_sums, column_sums


def top_k(problem: Problem, ring: Ring, k: int, shared, rows: Side, columns: Side) -> Best:
    """The k best columns of all devices for each of this device's rows."""

    def visit(best, columns, partial):
        return scan.top_k(problem, shared, rows, best, columns), partial

    best = varying(scan.no_best(len(rows.index), k, problem.dtype), ring)
    return travel(visit, best, columns, (), ring)[0]


def travel(
    visit: Callable, carry: PyTree, columns: PyTree, partial: PyTree, ring: Ring
) -> tuple[PyTree, PyTree]:
    """carry, partial after `visit(carry, columns, partial)` has met every device's columns."""

    def hop(state, _=None):
        carry, columns, partial = state
        upcoming = rotate(columns, ring)  # asked for before the work, so that it can hide behind it
        carry, partial = visit(carry, columns, partial)
        return (carry, upcoming, rotate(partial, ring)), None

    if ring.size > UNROLLED_HOPS:
        (carry, _, partial), _ = lax.scan(hop, (carry, columns, partial), length=ring.size)
        return carry, partial
    for _ in range(ring.size - 1):
        (carry, columns, partial), _ = hop((carry, columns, partial))
    carry, partial = visit(carry, columns, partial)
    return carry, rotate(partial, ring)


def rotate(tree: PyTree, ring: Ring) -> PyTree:
    """Hands each leaf on to the next device of the circle."""
    if ring.size == 1:
        return tree
    pairs = [(i, (i + 1) % ring.size) for i in range(ring.size)]
    return jax.tree.map(lambda x: lax.ppermute(x, ring.axes, pairs), tree)


def varying(tree: PyTree, ring: Ring) -> PyTree:
    """Marks values that are alike on every device as ones that are about to differ."""
    if ring.size == 1:
        return tree
    return jax.tree.map(lambda x: lax.pcast(x, ring.axes, to="varying"), tree)


def summed(tree: PyTree, ring: Ring) -> PyTree:
    """Each leaf added up over the devices."""
    return lax.psum(tree, ring.axes) if ring.size > 1 else tree


def _accumulators(problem: Problem, ring: Ring, shared, rows: Side, columns: Side) -> tuple[list, list, list]:
    """Zeros for the gradients of the floating leaves, no narrower than the problem's dtype."""
    return tuple(
        varying([jnp.zeros(x.shape, jnp.promote_types(problem.dtype, x.dtype)) for x in leaves], ring)
        for leaves in (shared[0], rows.floating, columns.floating)
    )
