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

LARGE = 2**26  # bytes of an array that a second copy of on a device would be dear
UNROLLED_HOPS = 16  # beyond it a loop: a pod of a thousand chips would compile a thousand copies


class Ring(NamedTuple):
    """The mesh axes that examples lie on, far to near, with their sizes.

    spread: the axes over which devices hold the same rows and take different columns of them.
    outer: the axes of a `shard_map` around the call over which arrays differ; nothing travels there.
    gathers: columns are gathered instead of travelling.
    """

    axes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    spread: tuple[str, ...] = ()
    spread_sizes: tuple[int, ...] = ()
    outer: tuple[str, ...] = ()
    gathers: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.sizes)

    @property
    def spread_size(self) -> int:
        return math.prod(self.spread_sizes)

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


def _unrolled(visit, carry, columns, found, axes, kept):
    """A ring of rings: while columns go one hop along the far axis they go once round the near ones."""
    if not axes:
        return visit(carry, columns, found, kept)
    axis, *near = axes
    all_kept = []
    for hop in range(axis[1]):
        last = hop == axis[1] - 1

        def visit_near(*state, own=None if kept is None else kept[hop]):
            return _unrolled(visit, *state, near, own)

        carry, columns, found, more = _hop(visit_near, carry, columns, found, axis, last)
        all_kept.append(more)
    return carry, found, all_kept


def _looped(visit, carry, columns, found, axes, kept):
    if not axes:
        return visit(carry, columns, found, kept)
    axis, *near = axes

    def hop(state, own):
        *state, more = _hop(lambda *state: _looped(visit, *state, near, own), *state, axis)
        return tuple(state), more

    (carry, _, found), kept = lax.scan(hop, (carry, columns, found), kept, length=axis[1])
    return carry, found, kept


def _hop(visit, carry, columns, found, axis: tuple[str, int], last: bool = False):
    """The work on the columns at hand, and the step on of columns and of what is found of them."""
    is_large = any(x.nbytes > LARGE for x in jax.tree.leaves(columns))
    # Asked for before the work, so that it can hide behind it.
    upcoming = columns if last or is_large else rotate(columns, axis)
    carry, found, kept = visit(carry, columns, found)
    if is_large and not last:
        # Next to so much work the way is short, and a second copy would be dear.
        carry, upcoming, found = lax.optimization_barrier((carry, upcoming, found))
        upcoming = rotate(upcoming, axis)
    return carry, upcoming, rotate(found, axis), kept


def rotate(tree: PyTree, axis: tuple[str, int]) -> PyTree:
    """Hands each leaf on to the next device along an axis; a large one piece by piece, in place."""
    name, size = axis
    pairs = [(i, (i + 1) % size) for i in range(size)]

    def move(x):
        pieces = -(-x.nbytes // LARGE)
        length = len(x) // pieces if pieces > 1 else 0
        if not length:
            return lax.ppermute(x, name, pairs)

        def move_piece(i, x, length=length):
            piece = lax.ppermute(lax.dynamic_slice_in_dim(x, i * length, length), name, pairs)
            return lax.dynamic_update_slice_in_dim(x, piece, i * length, 0)

        x = lax.fori_loop(0, pieces, move_piece, x)
        if pieces * length == len(x):
            return x
        rest = lax.ppermute(x[pieces * length :], name, pairs)
        return lax.dynamic_update_slice_in_dim(x, rest, pieces * length, 0)

    return jax.tree.map(move, tree)


def varying(tree: PyTree, ring: Ring) -> PyTree:
    """Marks values that are alike on some devices as ones that are about to differ."""

    axes = ring.all_axes + ring.outer

    def mark(x):
        missing = tuple(axis for axis in axes if axis not in jax.typeof(x).manual_axis_type.varying)
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(mark, tree) if axes else tree


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
