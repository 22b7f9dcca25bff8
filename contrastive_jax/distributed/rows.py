"""Arrays sharded by example, made of what each process holds of them; and sums over the processes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastive_jax.distributed.mesh import by_example, replicated

if TYPE_CHECKING:
    from jaxtyping import Array, Int64, PyTree, Shaped


def local_rows(mesh: Mesh, size: int) -> Int64[np.ndarray, " b"]:
    """The rows of an array of `size` examples that lie on this process's devices, in order.

    Processes that share the same rows, as along `tensor`, each have them all.
    """
    here = by_example(mesh).addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([np.arange(size)[index] for index in here]))


def place(
    mesh: Mesh, size: int, local: Mapping[str, Shaped[np.ndarray, "b ..."]]
) -> dict[str, Shaped[Array, "size ..."]]:
    """Global arrays of `size` examples from this process's rows of them, in the order of `local_rows`."""
    if jax.process_count() == 1:
        return jax.device_put(dict(local), by_example(mesh))
    rows = local_rows(mesh, size)

    def one(values):
        def shard(index):
            start, stop, _ = index[0].indices(size)
            first = np.searchsorted(rows, start)
            return values[first : first + stop - start]

        return jax.make_array_from_callback((size, *values.shape[1:]), by_example(mesh), shard)

    return {name: one(values) for name, values in local.items()}


def place_everywhere(mesh: Mesh, tree: PyTree) -> PyTree:
    """Arrays that every process holds alike, on every device."""
    if jax.process_count() == 1:
        return jax.device_put(tree, replicated(mesh))

    def one(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, replicated(mesh), lambda index: x[index])

    return jax.tree.map(one, tree)


def summed(mesh: Mesh, values: Any) -> Array:
    """The sum over all processes of int32 [n], the same on every device; it is not waited for.

    Every process calls it, in the same order as all other programs.
    """
    values = np.asarray(values, np.int32)
    each = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    own = min(each.addressable_devices, key=lambda device: device.id)
    place_of = each.devices_indices_map((mesh.size,))
    first = place_of[own][0].start or 0

    def shard(index):
        return (values if (index[0].start or 0) == first else np.zeros_like(values))[None]

    table = jax.make_array_from_callback((mesh.size, len(values)), each, shard)
    return _sum(mesh)(table)


@functools.cache
def _sum(mesh: Mesh) -> Any:
    return jax.jit(lambda table: table.sum(0), out_shardings=replicated(mesh))
