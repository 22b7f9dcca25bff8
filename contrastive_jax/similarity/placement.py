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
        return self._replace(ring=self.ring._replace(spread=(), spread_size=1))

    @property
    def is_explicit(self) -> bool:
        """Whether shardings are part of the arrays' types, so that they must be told and kept."""
        return self.mesh is not None and AxisType.Explicit in self.mesh.axis_types

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

    def gradient(self, gradient: Array | None, leaf: Array) -> Array:
        """A gradient as its leaf is: without padding, in its dtype and where it lies."""
        if gradient is None:
            return None
        gradient = self.trim(gradient, leaf.shape[0]) if leaf.ndim else gradient
        if self.is_explicit:
            gradient = jax.sharding.reshard(
                gradient, NamedSharding(self.mesh, jax.typeof(leaf).sharding.spec)
            )
        return gradient.astype(leaf.dtype)

    def shares(self, spec: PartitionSpec) -> int:
        """How many devices share what lies as `spec` says."""
        axes = spec[0] if len(spec) else ()
        sizes = dict(zip(self.ring.axes, self.ring.sizes)) | dict.fromkeys(
            self.ring.spread, self.ring.spread_size
        )
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


def locate(trees: PyTree, axes: tuple[str, ...], spread: str | None, mesh=None) -> Placement:
    """The placement for arrays, from the mesh given, the ambient one, or the one they lie on.

    Raises ValueError for a mesh of several devices that has none of `axes`, for arrays on another
    mesh than the one in use, and inside a `shard_map` over any of `axes`.
    """
    axes = (axes,) if isinstance(axes, str) else tuple(axes)
    ambient = jax.sharding.get_abstract_mesh()
    manual = [a for a in axes if a in ambient.manual_axes]
    if manual:
        raise ValueError(
            f"called inside a shard_map over {manual}: call it outside on the global arrays "
            "(it opens a shard_map of its own), or map over other axes"
        )
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
        return Placement(None, Ring())
    present = tuple(a for a in axes if a in mesh.shape)
    if not present:
        raise ValueError(
            f"the mesh has axes {dict(mesh.shape)} and none of axes={axes}: name the ones that the "
            "examples are sharded over"
        )
    if spread in axes:
        raise ValueError(f"spread={spread!r} is one of axes={axes}: name an axis that examples do not lie on")
    present = tuple(a for a in present if mesh.shape[a] > 1)
    size = 1 if spread is None or spread in ambient.manual_axes else mesh.shape.get(spread, 1)
    sizes = tuple(mesh.shape[a] for a in present)
    return Placement(mesh, Ring(present, sizes, (spread,) if size > 1 else (), size))


def _mesh_of(leaf: Array):
    """The mesh of several devices that an array lies on, if any."""
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
        sharding = leaf.sharding
        mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    else:
        mesh = jax.typeof(leaf).sharding.mesh
    return mesh if mesh is not None and not mesh.empty and mesh.size > 1 else None
