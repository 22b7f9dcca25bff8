"""Many devices: the rows stay where they are, and every row meets the columns of all devices.

Either the columns travel round a ring, or they are gathered. What is found out of them on the way (sums,
gradients) comes home to the device that they belong to. Nothing here is differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import PyTree

UNROLLED_HOPS = 16  # beyond it a loop: a pod of a thousand chips would compile a thousand copies


class Ring(NamedTuple):
    """The mesh axes that examples lie on, far to near, with their sizes.

    spread: the axes over which devices hold the same rows and take different columns of them.
    gathers: columns are gathered instead of travelling.
    """

    axes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    spread: tuple[str, ...] = ()
    spread_size: int = 1
    gathers: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.sizes)

    @property
    def all_axes(self) -> tuple[str, ...]:
        return self.axes + self.spread


def added_up(partial: PyTree, ring: Ring) -> PyTree:
    """What all devices found of all gathered columns, to the device that each belongs to."""
    return jax.tree.map(lambda x: lax.psum_scatter(x, ring.axes, tiled=True), partial)


def meet(
    visit: Callable,
    carry: PyTree,
    columns: PyTree,
    start: Callable[[int], PyTree],
    ring: Ring,
    kept: PyTree = None,
    travels: bool = True,
    home: Callable[[PyTree, Ring], PyTree] = added_up,
) -> tuple[PyTree, PyTree, PyTree]:
    """carry, what was found of the columns, and what was kept, when the rows have met all columns.

    visit(carry, columns, found, kept) -> (carry, found, kept). start(n) is what is found of n columns
    before they have met a row. What comes back is of this device's own columns. kept: what an earlier
    `meet` on the same ring kept. travels: whether the columns are a share, or lie on every device.
    home: how to merge what devices have found of gathered columns.
    """
    size = len(jax.tree.leaves(columns)[0])
    if ring.size == 1 or not travels:
        return visit(carry, columns, varying(start(size), ring), kept)
    if ring.gathers:
        gathered = jax.tree.map(lambda x: lax.all_gather(x, ring.axes, tiled=True), columns)
        carry, found, kept = visit(carry, gathered, varying(start(size * ring.size), ring), kept)
        return carry, home(found, ring), kept
    circle = _looped if ring.size > UNROLLED_HOPS else _unrolled
    axes = tuple(zip(ring.axes, ring.sizes))
    return circle(visit, carry, columns, varying(start(size), ring), axes, kept)


def _unrolled(visit, carry, columns, partial, axes, kept):
    """A ring of rings: while columns go one hop along the far axis they go once round the near ones."""
    if not axes:
        return visit(carry, columns, partial, kept)
    axis, *near = axes
    found = []
    for hop in range(axis[1]):
        # asked for before the work, so that it can hide behind it
        upcoming = rotate(columns, axis) if hop < axis[1] - 1 else None
        own = None if kept is None else kept[hop]
        carry, partial, more = _unrolled(visit, carry, columns, partial, near, own)
        partial, columns = rotate(partial, axis), upcoming
        found.append(more)
    return carry, partial, found


def _looped(visit, carry, columns, partial, axes, kept):
    if not axes:
        return visit(carry, columns, partial, kept)
    axis, *near = axes

    def hop(state, own):
        carry, columns, partial = state
        upcoming = rotate(columns, axis)
        carry, partial, more = _looped(visit, carry, columns, partial, near, own)
        return (carry, upcoming, rotate(partial, axis)), more

    (carry, _, partial), found = lax.scan(hop, (carry, columns, partial), kept, length=axis[1])
    return carry, partial, found


def rotate(tree: PyTree, axis: tuple[str, int]) -> PyTree:
    """Hands each leaf on to the next device along an axis."""
    name, size = axis
    pairs = [(i, (i + 1) % size) for i in range(size)]
    return jax.tree.map(lambda x: lax.ppermute(x, name, pairs), tree)


def varying(tree: PyTree, ring: Ring) -> PyTree:
    """Marks values that are alike on some devices as ones that are about to differ."""

    def mark(x):
        missing = tuple(axis for axis in ring.all_axes if axis not in jax.typeof(x).manual_axis_type.varying)
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(mark, tree) if ring.all_axes else tree


def summed(tree: PyTree, axes: tuple[str, ...]) -> PyTree:
    """Each leaf added up over the devices along the axes."""
    return lax.psum(tree, axes) if axes else tree


def stacked(tree: PyTree, ring: Ring) -> PyTree:
    """[spread, ...]: what each of the devices that share rows has found, alike on all of them."""
    if not ring.spread:
        return jax.tree.map(lambda x: x[None], tree)
    own = lax.axis_index(ring.spread)

    def stack(x):
        everyone = jnp.zeros((ring.spread_size, *x.shape), x.dtype)
        return lax.psum(lax.dynamic_update_index_in_dim(varying(everyone, ring), x, own, 0), ring.spread)

    return jax.tree.map(stack, tree)
