"""Where a reduction runs: which mesh, which of its axes, and how arrays get there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive_jax.similarity.scan import padded
from contrastive_jax.similarity.tiles import Side
from contrastive_jax.similarity.travel import Ring, varying

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


AXES = ("data", "fsdp")
"""What the axes that examples are sharded over are called, where nobody says."""

_EXPLICIT = AxisType.Explicit


class Placement(NamedTuple):
    """The ring of devices that examples are sharded over, in its mesh (None: one device).

    checks: whether JAX checks what is alike on devices; it cannot look into interpreted kernels.
    """

    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh | None
    ring: Ring
    checks: bool = True

    @property
    def rows(self) -> PartitionSpec:
        return PartitionSpec(self.ring.axes) if self.ring.axes else PartitionSpec()

    @property
    def columns(self) -> PartitionSpec:
        """Devices that hold the same rows take different columns."""
        return PartitionSpec(self.ring.all_axes) if self.ring.all_axes else PartitionSpec()

    def further(self, sharded: bool) -> PartitionSpec:
        if sharded:
            return self.columns
        return PartitionSpec(self.ring.spread) if self.ring.spread else PartitionSpec()

    def unspread(self) -> Placement:
        """For what devices that hold the same rows all do."""
        return self._replace(ring=self.ring._replace(spread=(), spread_sizes=()))

    @property
    def is_explicit(self) -> bool:
        """Whether shardings are part of the arrays' types, so that they must be told and kept."""
        return self.mesh is not None and _EXPLICIT in self.mesh.axis_types

    def trim(self, x: Array, size: int) -> Array:
        """The first `size` examples: padding stands at the end."""
        if x.shape[:1] == (size,):
            return x
        if self.is_explicit:
            x = jax.sharding.reshard(x, NamedSharding(self.mesh, PartitionSpec()))
        return x[:size]

    def settle(self, x: Array, size: int) -> Array:
        """A result by example, without padding and where examples lie."""
        if self.is_explicit and x.shape[0] == size and self.ring.spread:
            return jax.sharding.reshard(x, NamedSharding(self.mesh, self.rows))
        return self.trim(x, size)

    def gradient(self, gradient: Array | None, leaf: Array, wide: bool = False) -> Array:
        """A gradient as its leaf is: without padding, in its dtype (wide: its own) and where it lies."""
        if gradient is None:
            return None
        gradient = self.trim(gradient, leaf.shape[0]) if leaf.ndim else gradient
        if self.is_explicit:
            gradient = jax.sharding.reshard(
                gradient, NamedSharding(self.mesh, jax.typeof(leaf).sharding.spec)
            )
        return gradient if wide else gradient.astype(leaf.dtype)

    def shares(self, spec: PartitionSpec) -> int:
        """How many devices share what lies as `spec` says."""
        axes = spec[0] if len(spec) else ()
        ring = self.ring
        sizes = dict(zip(ring.all_axes, ring.sizes + ring.spread_sizes))
        count = 1
        for axis in (axes,) if isinstance(axes, str) else axes:
            count *= sizes[axis]
        return count

    def side(
        self, floating: list[Array], others: list[Array], size: int, spec: PartitionSpec, first: int = 0
    ) -> Side:
        """Examples first, first + 1, … filled up with repetitions until the devices share them evenly."""
        filling = -size % self.shares(spec)
        floating, others = padded((floating, others), filling)
        index = jnp.arange(size + filling, dtype=jnp.int32)
        return Side(floating, others, jnp.where(index < size, index + first, -1))

    def run(self, body: Callable, arguments: tuple, specs: tuple, results: PyTree) -> PyTree:
        """body(shared, *others) on every device; specs and results say how arguments and results lie."""
        if not self.ring.all_axes:
            return body(*arguments)
        if self.is_explicit:
            arguments = jax.tree.map(
                lambda spec, tree: jax.sharding.reshard(tree, NamedSharding(self.mesh, spec)),
                specs,
                tuple(arguments),
                is_leaf=lambda x: isinstance(x, PartitionSpec),
            )

        def marked(shared, *others):
            # unmarked, a tile's derivative would add up what devices share at every tile
            return body(
                varying(shared, self.ring),
                *jax.tree.map(lambda x: varying(x, self.ring) if x.ndim else x, others),
            )

        return jax.shard_map(
            marked,
            mesh=self.mesh,
            in_specs=specs,
            out_specs=results,
            axis_names=set(self.ring.all_axes),
            check_vma=self.checks,
        )(*arguments)


def locate(
    trees: PyTree, axes: str | tuple[str, ...] | None, spread: str | tuple[str, ...] | None, mesh=None
) -> Placement:
    """The placement for arrays, from the mesh given, the ambient one, or the one they lie on.

    trees: of shared, rows, columns and further columns. axes None: `AXES` and what the shardings say.
    Raises ValueError for a mesh of several devices that has none of `axes`, or one that nothing is known
    of; for arrays on another mesh than the one in use; and inside a `shard_map` over any of `axes`.
    """
    spread = (spread,) if isinstance(spread, str) else tuple(spread or ())
    ambient = jax.sharding.get_abstract_mesh()
    own = {leaf_mesh for leaf_mesh in map(_mesh_of, jax.tree.leaves(trees)) if leaf_mesh is not None}
    if mesh is None:
        mesh = ambient if not ambient.empty else next(iter(own), None)
    for other in own:
        if dict(other.shape) != dict(mesh.shape):
            raise ValueError(
                f"an array lies on a mesh with axes {dict(other.shape)}, but the reduction runs on one "
                f"with {dict(mesh.shape)}: move the array, or pass mesh="
            )
    if mesh is None or mesh.size == 1:
        _check_automatic(axes or AXES, ambient)
        return Placement(None, Ring(outer=_varying(trees)))
    if axes is None:
        axes, spread = _axes_of(trees, mesh, ambient.manual_axes, spread)
    _check_automatic(axes, ambient)
    axes = (axes,) if isinstance(axes, str) else tuple(axes)
    present = tuple(a for a in axes if a in mesh.shape)
    size = {a: 1 if a in ambient.manual_axes else mesh.shape.get(a, 1) for a in (*present, *spread)}
    spread = tuple(a for a in spread if size[a] > 1)
    if not present and not spread:
        raise ValueError(
            f"the mesh has axes {dict(mesh.shape)} and none of axes={axes}: name the ones that the "
            "examples are sharded over"
        )
    if both := [a for a in spread if a in axes]:
        raise ValueError(
            f"spread={both[0]!r} is one of axes={axes}: name an axis that examples do not lie on"
        )
    present = tuple(a for a in present if size[a] > 1)
    sizes = (tuple(size[a] for a in axes) for axes in (present, spread))
    return Placement(mesh, Ring(present, next(sizes), spread, next(sizes), _varying(trees)))


def _varying(trees: PyTree) -> tuple[str, ...]:
    """The axes of a `shard_map` around this over which any of the arrays differs."""
    found = (jax.typeof(x).manual_axis_type.varying for x in jax.tree.leaves(trees))
    return tuple(sorted(frozenset().union(*found)))


def _check_automatic(axes: str | tuple[str, ...], ambient: jax.sharding.AbstractMesh) -> None:
    axes = (axes,) if isinstance(axes, str) else axes
    if manual := [a for a in axes if a in ambient.manual_axes]:
        raise ValueError(
            f"called inside a shard_map over {manual}: call it outside on the global arrays "
            "(it opens a shard_map of its own), or map over other axes"
        )


def _axes_of(trees: PyTree, mesh, manual: frozenset, spread: tuple[str, ...]) -> tuple[tuple, tuple]:
    """The axes that examples lie on, and those along which devices hold the same ones.

    `AXES` and `spread` where the mesh has them. Other axes tell by the arrays' shardings, which are known of
    arrays that are no tracers, and of all on Explicit axes; ValueError where they do not tell.
    """
    known = tuple(a for a in AXES if a in mesh.shape)
    others = [a for a, size in mesh.shape.items() if size > 1 and a not in (*known, *spread, *manual)]
    if not others:
        return known or tuple(a for a in manual if a not in spread), spread
    _, *sides = trees
    leaves = [leaf for leaf in jax.tree.leaves(sides) if leaf.ndim]
    lies = [axes for axes in (_first_axes(leaf, others) for leaf in leaves) if axes is not None]
    told = [a for axes in sorted(lies, key=len, reverse=True) for a in axes if a not in spread]
    alike = [a for a in others if a not in told]
    untold = [
        side
        for side in sides[:2]
        if all(_first_axes(x, others) is None for x in jax.tree.leaves(side) if _is_floating(x))
    ]
    if alike and untold:
        raise ValueError(_unknown(mesh, known, alike))
    return tuple(dict.fromkeys((*told, *known) if set(told) & set(others) else known)), (*spread, *alike)


def _first_axes(leaf: Array, asked: list[str]) -> tuple[str, ...] | None:
    """The mesh axes that the examples of an array lie on; None where nobody knows of those asked about."""
    if isinstance(leaf, jax.core.Tracer):
        sharding = jax.typeof(leaf).sharding
        known = [
            a for a, kind in zip(sharding.mesh.axis_names, sharding.mesh.axis_types) if kind == _EXPLICIT
        ]
    else:
        sharding = leaf.sharding
        known = sharding.mesh.axis_names if isinstance(sharding, NamedSharding) else ()
    if not set(asked) <= set(known):
        return None
    first = sharding.spec[0] if len(sharding.spec) else None
    return () if first is None else (first,) if isinstance(first, str) else tuple(first)


def _unknown(mesh, known: tuple[str, ...], alike: list[str]) -> str:
    sizes = ", ".join(f"{axis!r} (size {mesh.shape[axis]})" for axis in alike)
    on = tuple(a for a in mesh.axis_names if a in (*known, *alike))
    same = alike[0] if len(alike) == 1 else tuple(alike)
    without = f', engine={{"axes": {_quoted(known)}}} to have each of them do all' if known else ""
    return (
        f"the mesh has axes {dict(mesh.shape)}, and whether examples lie on {sizes} cannot be told from "
        f'these arrays: write engine={{"axes": {_quoted(on)}}} if they do, engine={{"spread": '
        f"{_quoted(same)}}} if devices along it hold the same examples and are to share the work{without}"
    )


def _quoted(value: str | tuple[str, ...]) -> str:
    """As Python code, in double quotes."""
    return repr(value).replace("'", '"')


def _is_floating(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _mesh_of(leaf: Array):
    """The mesh of several devices that an array lies on, if any."""
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
        sharding = leaf.sharding
        mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    else:
        mesh = jax.typeof(leaf).sharding.mesh
    return mesh if mesh is not None and not mesh.empty and mesh.size > 1 else None
