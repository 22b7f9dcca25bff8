"""The mesh of devices: three axes, all Auto."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from contrastive_jax.errors import InputError

BATCH_AXES = ("data", "fsdp")


@dataclass(frozen=True)
class MeshShape:
    """Devices along each axis; one of them may be -1, which takes what is left.

    data: copies of the parameters; fsdp: parameters sharded over devices that also share the batch;
    tensor: parameters sharded within a layer.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def make(self, devices: Sequence[jax.Device] | None = None) -> Mesh:
        """The mesh over `devices` (all); InputError if the axes do not multiply to their number."""
        devices = jax.devices() if devices is None else devices
        sizes = {"data": self.data, "fsdp": self.fsdp, "tensor": self.tensor}
        free = [name for name, size in sizes.items() if size == -1]
        known = math.prod(size for size in sizes.values() if size != -1)
        if len(free) == 1 and known > 0 and len(devices) % known == 0:
            sizes[free[0]] = len(devices) // known
        if min(sizes.values()) < 1 or math.prod(sizes.values()) != len(devices):
            given = ", ".join(f"{name}={getattr(self, name)}" for name in sizes)
            raise InputError(
                f"config.mesh ({given}) does not multiply to {len(devices)} devices; "
                "choose sizes that do, or -1 for one of them"
            )
        shape, axis_types = tuple(sizes.values()), (AxisType.Auto,) * len(sizes)
        try:
            return jax.make_mesh(shape, tuple(sizes), axis_types=axis_types, devices=devices)
        except NotImplementedError:  # an axis that is no product of a TPU slice's own: part of one then
            arranged = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
            return Mesh(arranged, tuple(sizes), axis_types=axis_types)


def by_example(mesh: Mesh) -> NamedSharding:
    """Examples, the first axis, over the batch axes."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_shards(mesh: Mesh | None = None) -> int:
    """How many devices share the batch, on a mesh or on the ambient one."""
    mesh = jax.sharding.get_abstract_mesh() if mesh is None else mesh
    return math.prod(mesh.shape.get(axis, 1) for axis in BATCH_AXES)
