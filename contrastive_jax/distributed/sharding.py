"""The one table from logical axis names to mesh axes, and what reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jax.sharding import AbstractMesh, Mesh
    from jaxtyping import Array, PyTree

    Names = Sequence[str | None]

MESH_AXES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),
    "mlp": ("tensor",),
    "heads": ("tensor",),
    "vocab": ("tensor",),
    "layers": (),
    "length": (),
    "features": (),
    "patch": (),
    "projections": (),
    "kv": (),
}
_KNOWN = {axis for axes in MESH_AXES.values() for axis in axes}


def specification(
    names: Names, shape: Sequence[int], mesh: Mesh | AbstractMesh, name: str = "array"
) -> PartitionSpec:
    """Where the dimensions of an array lie on a mesh.

    Mesh axes that the mesh lacks, or that are of size 1, are left out.

    Args:
        names: a logical axis name a dimension; None for one that is never divided.
        shape: the array's shape, as long as `names`.
        mesh: the mesh.
        name: what error messages call the array, as a parameter's path.

    Raises:
        InputError: an unknown logical name, a mesh axis that two dimensions claim, or a dimension
            that the mesh axes do not divide.
    """
    if len(names) != len(shape):
        raise ValueError(f"{name}: {len(names)} axis names {tuple(names)} for the shape {tuple(shape)}")
    entries: list[tuple[str, ...]] = []
    owner: dict[str, str] = {}
    for axis, size in zip(names, shape, strict=True):
        placed = _present(axis, mesh, name)
        for mesh_axis in placed:
            if mesh_axis in owner:
                raise InputError(
                    f"{name}: its axes '{owner[mesh_axis]}' and '{axis}' both lie on mesh axis "
                    f"'{mesh_axis}'; give one of them another logical name, or set config.mesh.{mesh_axis}=1"
                )
            owner[mesh_axis] = str(axis)
        devices = _devices(placed, mesh)
        if size % devices:
            raise InputError(
                f"{name}: axis '{axis}' of size {size} does not divide over {devices} devices "
                f"({_sizes(placed, mesh)}); give a size or a mesh where it does"
            )
        entries.append(placed)
    return _partition(entries)


def shardings(axes: PyTree, shapes: PyTree, mesh: Mesh) -> PyTree[NamedSharding]:
    """The sharding of each array of a tree.

    Args:
        axes: the tree with a tuple of logical axis names for each array.
        shapes: the tree of arrays, or of anything with a `shape`.
        mesh: the mesh.

    Raises:
        InputError: as `specification`, naming the parameter by its path (`blocks/mlp/kernel`).
    """

    def one(path: Any, leaf: Any, names: Names) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return NamedSharding(mesh, specification(names, leaf.shape, mesh, name))

    return jax.tree_util.tree_map_with_path(one, shapes, axes)


def constrain(x: Array, names: Names) -> Array:
    """Ask the compiler to lay `x` out as its logical axis names say, on the ambient mesh.

    Nothing is asked without an ambient mesh of several devices, nor of mesh axes that are manual
    (inside `shard_map`) or explicit. Nor on a mesh with an axis that the table does not know: an example
    that lay on it would be copied to all its devices. A dimension that its mesh axes do not divide, as the
    batch of one example, is left to the compiler.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if len(names) != x.ndim:
        raise ValueError(f"{len(names)} axis names {tuple(names)} for an array of shape {x.shape}")
    if mesh.empty or mesh.size == 1:
        return x
    automatic = {a for a, kind in zip(mesh.axis_names, mesh.axis_types) if kind == AxisType.Auto}
    if not automatic or any(mesh.shape[a] > 1 for a in automatic - _KNOWN):
        return x
    entries: list[Any] = []
    for axis, size in zip(names, x.shape, strict=True):
        placed = tuple(a for a in _present(axis, mesh, "activation") if a in automatic)
        divides = size % _devices(placed, mesh) == 0
        entries.append(placed if divides else PartitionSpec.UNCONSTRAINED)
    return jax.lax.with_sharding_constraint(x, _partition(entries))


def _present(axis: str | None, mesh: Mesh | AbstractMesh, name: str) -> tuple[str, ...]:
    if axis is None:
        return ()
    if axis not in MESH_AXES:
        raise InputError(f"{name}: unknown logical axis '{axis}'; known: {', '.join(sorted(MESH_AXES))}")
    return tuple(a for a in MESH_AXES[axis] if mesh.shape.get(a, 1) > 1)


def _devices(placed: tuple[str, ...], mesh: Mesh | AbstractMesh) -> int:
    return math.prod(mesh.shape[a] for a in placed)


def _sizes(placed: tuple[str, ...], mesh: Mesh | AbstractMesh) -> str:
    return ", ".join(f"config.mesh.{a}={mesh.shape[a]}" for a in placed)


def _partition(entries: Sequence[Any]) -> PartitionSpec:
    """The shortest spelling, which is the one that jit gives back: another one would compile again."""
    short = [
        None if entry == () else entry[0] if isinstance(entry, tuple) and len(entry) == 1 else entry
        for entry in entries
    ]
    while short and short[-1] is None:
        short.pop()
    return PartitionSpec(*short)
