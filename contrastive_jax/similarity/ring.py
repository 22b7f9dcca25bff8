"""Many devices: the rows stay where they are, the columns travel round the mesh.

What is known of the columns so far (sums, gradients) travels with them and is home after as many hops
as there are devices. Nothing here is differentiated: derivatives are rings of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import PyTree

UNROLLED_HOPS = 16  # beyond it a loop: a pod of a thousand chips would compile a thousand copies


class Ring(NamedTuple):
    """The mesh axes that the examples lie on, as one circle; the last axis is the near one."""

    axes: tuple[str, ...]
    size: int


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
