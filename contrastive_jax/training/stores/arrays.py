"""The arrays of a checkpoint in an object store, by TensorStore: Orbax writes to folders only."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from contrastive_jax.data.faults import StoreFault
from contrastive_jax.training.stores.paths import StorePath

_LARGEST = 1 << 28  # bytes of a chunk; a store takes 5 GB at once


class StoreArrays:
    """Arrays as zarr (version 3), each below `<folder>/<name>`; a chunk belongs to one device's part.

    So each process writes the parts that it holds and nobody else's, and reads what it needs on any mesh.
    """

    def __init__(self, first: bool) -> None:
        self._first = first  # whether this process describes the arrays
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="arrays")
        self._pending: Future[None] | None = None

    def save(self, folder: StorePath, arrays: Mapping[str, jax.Array]) -> None:
        """Copies the parts that this process holds to the host, and starts to write them."""
        parts = {}
        for name, array in arrays.items():
            held = (part for part in array.addressable_shards if part.replica_id == 0)
            parts[name] = [(part.index, np.array(part.data)) for part in held]  # copies: it may be donated
        described = {name: _described(array) for name, array in arrays.items()}
        self._pending = self._thread.submit(self._write, folder, described, parts)

    def wait_until_finished(self) -> None:
        """Waits for what `save` has started; raises what has gone wrong."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, folder: StorePath, described: Mapping[str, Any], parts: Mapping[str, list]) -> None:
        import tensorstore

        base, opened = folder.kvstore(), {}
        for name, metadata in described.items():
            spec = {**_spec(base, name), "metadata": metadata}
            if self._first:
                opened[name] = tensorstore.open(spec, open=True, create=True)
            elif parts[name]:
                opened[name] = tensorstore.open(spec, open=True, assume_metadata=True)
        arrays = {name: array.result() for name, array in opened.items()}
        writes = [arrays[name][index].write(part) for name in arrays for index, part in parts[name]]
        for write in writes:
            write.result()

    def restore(self, folder: StorePath, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Arrays by their names, in the types and with the shardings that are wanted.

        Raises:
          StoreFault: they cannot be read.
        """
        try:
            return self._read(folder, wanted)
        except (ValueError, RuntimeError, OSError) as error:  # of TensorStore
            raise StoreFault(f"{folder} cannot be read: {' '.join(str(error).split())[:200]}") from error

    def _read(self, folder: StorePath, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        import tensorstore

        base = folder.kvstore()
        opened = {name: tensorstore.open(_spec(base, name), open=True) for name in wanted}
        arrays = {name: array.result() for name, array in opened.items()}
        reads = {
            name: {_key(at): arrays[name][at].read() for at in _own_parts(leaf)}
            for name, leaf in wanted.items()
        }
        found = {}
        for name, leaf in wanted.items():
            own = {key: np.asarray(read.result(), leaf.dtype) for key, read in reads.pop(name).items()}
            found[name] = jax.make_array_from_callback(
                leaf.shape, leaf.sharding, lambda at, own=own: own[_key(at)]
            )
        return found

    def close(self) -> None:
        """Frees the thread."""
        self._thread.shutdown()


def _spec(base: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": {**base, "path": f"{base['path']}{name}/"}}


def _described(array: jax.Array) -> dict[str, Any]:
    """What zarr says of an array: a chunk is one device's part, or an even division of it."""
    chunk = list(array.sharding.shard_shape(array.shape))
    while np.prod(chunk, dtype=np.int64) * array.dtype.itemsize > _LARGEST:
        even = [axis for axis, size in enumerate(chunk) if size % 2 == 0]
        if not even:
            break
        axis = max(even, key=lambda axis: chunk[axis])
        chunk[axis] //= 2
    grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
    return {"shape": list(array.shape), "data_type": array.dtype.name, "chunk_grid": grid}


def _own_parts(leaf: jax.ShapeDtypeStruct) -> list[tuple[slice, ...]]:
    placed = leaf.sharding.addressable_devices_indices_map(leaf.shape)
    return list({_key(at): at for at in placed.values()}.values())


def _key(at: tuple[slice, ...]) -> tuple:
    return tuple((part.start, part.stop) for part in at)
