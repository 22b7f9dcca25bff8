"""Where a reduction runs: which mesh, which of its axes, and how arrays get there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive_jax.similarity.ring import Ring, varying
from contrastive_jax.similarity.scan import padded
from contrastive_jax.similarity.tiles import Side

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Placement(NamedTuple):
    """The ring of devices that examples are sharded over, in its mesh (None: one device)."""

    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh | None
    ring: Ring

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

    def gradient(self, gradient: Array, leaf: Array) -> Array:
        """A gradient as its leaf is: without padding, in its dtype and where it lies."""
        gradient = self.trim(gradient, leaf.shape[0]) if leaf.ndim else gradient
        if self.is_explicit:
            gradient = jax.sharding.reshard(
                gradient, NamedSharding(self.mesh, jax.typeof(leaf).sharding.spec)
            )
        return gradient.astype(leaf.dtype)

    def pad(self, tree: PyTree) -> PyTree:
        """Repeats the last example until the devices share the examples evenly."""
        leaves = jax.tree.leaves(tree)
        return padded(tree, -leaves[0].shape[0] % self.ring.size)

    def side(self, floating: list[Array], others: list[Array], size: int) -> Side:
        floating, others = self.pad((floating, others))
        index = jnp.arange(size + -size % self.ring.size, dtype=jnp.int32)
        return Side(floating, others, jnp.where(index < size, index, -1))

    def run(self, body: Callable, shared: PyTree, *sharded: PyTree, summed: bool | str = False) -> PyTree:
        """body(shared, *sharded) on every device's own examples.

        `summed` says which results are alike everywhere: none, the first (True), or the "only" one.
        """
        if self.ring.size == 1:
            return body(shared, *sharded)
        alike, by_example = PartitionSpec(), PartitionSpec(self.ring.axes)
        out = {False: by_example, True: (alike, by_example, by_example), "only": alike}[summed]
        if self.is_explicit:
            shared = jax.sharding.reshard(shared, NamedSharding(self.mesh, alike))
            sharded = jax.sharding.reshard(sharded, NamedSharding(self.mesh, by_example))
        return jax.shard_map(
            # unmarked, a tile's derivative would sum `shared` over the devices at every tile
            lambda shared, *sharded: body(varying(shared, self.ring), *sharded),
            mesh=self.mesh,
            in_specs=(alike, *(by_example for _ in sharded)),
            out_specs=out,
            axis_names=set(self.ring.axes),
        )(shared, *sharded)


def locate(trees: PyTree, axes: tuple[str, ...], mesh=None) -> Placement:
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
        return Placement(None, Ring((), 1))
    present = tuple(a for a in axes if a in mesh.shape)
    if not present:
        raise ValueError(
            f"the mesh has axes {dict(mesh.shape)} and none of axes={axes}: name the ones that the "
            "examples are sharded over"
        )
    present = tuple(a for a in present if mesh.shape[a] > 1)
    size = 1
    for axis in present:
        size *= mesh.shape[axis]
    return Placement(mesh, Ring(present, size))


def _mesh_of(leaf: Array):
    """The mesh of several devices that an array lies on, if any."""
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer):
        sharding = leaf.sharding
        mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    else:
        mesh = jax.typeof(leaf).sharding.mesh
    return mesh if mesh is not None and not mesh.empty and mesh.size > 1 else None
