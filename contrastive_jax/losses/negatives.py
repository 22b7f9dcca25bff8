"""Further columns that are nobody's positive: hard negatives of the batch, and memories of earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.losses.labels import ids
from contrastive_jax.similarity import Extra

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

    Negatives = Float[Array, "R K d"] | Float[Array, "N d"]


class Memory(NamedTuple):
    """Embeddings of earlier batches, without gradient.

    filled: which of them are there yet, None for all; the others may hold anything. labels: which queue
    each belongs to (a language, a modality), None for one queue.
    """

    embeddings: Float[Array, "N d"]
    filled: Bool[Array, " N"] | None = None
    labels: Int[Array, " N"] | None = None

    @classmethod
    def of(cls, memory: Memory | Float[Array, "N d"] | None) -> Memory | None:
        """The same as a Memory without gradient, with zeros where it is not filled.

        Raises ValueError for parts that do not fit each other.
        """
        if memory is None:
            return None
        memory = memory if isinstance(memory, Memory) else cls(memory)
        z = jax.lax.stop_gradient(jnp.asarray(memory.embeddings))
        for name in ("filled", "labels"):
            given = getattr(memory, name)
            if given is not None and np.shape(given) != z.shape[:1]:
                raise ValueError(f"memory.{name} has shape {np.shape(given)} beside embeddings {z.shape}")
        if memory.filled is not None:
            z = jnp.where(jnp.reshape(memory.filled, (-1, *(1,) * (z.ndim - 1))), z, 0)
        return memory._replace(embeddings=z)


def further_columns(
    columns: dict[str, Array],
    negatives: Negatives | tuple[Negatives, ...] | None = None,
    memory: Memory | None = None,
    by_label: bool = False,
) -> tuple[dict[str, Array], list[Extra]]:
    """The batch's columns, and the further ones as the engine takes them, with the same records.

    negatives: of this batch, so with gradient; those of [R, K, d] are the own ones of their row, and known
    by `owner`, its number. memory: see `Memory.of`; by_label: whether a row sees its own label's alone. Both
    travel as the batch's columns do, so each device keeps a share of them. Raises ValueError for another
    width than the columns'.
    """
    blocks = [_of_batch(columns, block) for block in _blocks(negatives)]
    if memory is not None:
        blocks.append(_remembered(columns, memory, by_label))
    if not blocks:
        return columns, []
    names = {name: leaf for block in blocks for name, leaf in block.items()}
    batch = _filled_up({**columns, "extra": jnp.zeros(len(columns["embedding"]), bool)}, names)
    return batch, [Extra(_filled_up(block, batch), sharded=True) for block in blocks]


def seen(
    rows: dict[str, Array], columns: dict[str, Array], shape: tuple[int, int]
) -> Bool[Array, "r c"] | None:
    """Which columns a row sees of a memory; None where it sees all. Other columns are always seen."""
    mask = None
    if "filled" in columns:
        mask = jnp.broadcast_to(columns["filled"][None, :], shape)
    if "labelled" in columns:
        own = rows["memory_label"][:, None] == columns["memory_label"][None, :]
        own |= ~columns["labelled"][None, :]
        mask = own if mask is None else mask & own
    return mask


def with_labels(
    memory: Memory | None, labels: Int[Array, " R"] | None, rows: int
) -> tuple[Memory | None, Int[Array, " R"] | None]:
    """The memory and the labels of rows, which compare; ValueError for some that do not fit or are no ids."""
    if labels is None:
        return memory, None
    if memory is None or memory.labels is None:
        raise ValueError("memory_labels= wants a memory with labels: give Memory(embeddings, labels=...)")
    if np.shape(labels) != (rows,):
        raise ValueError(f"memory_labels have shape {np.shape(labels)} beside {rows} rows")
    labels, remembered = ids("memory_labels", labels, memory.labels)
    return memory._replace(labels=remembered), labels


def _blocks(negatives) -> tuple[Array, ...]:
    if negatives is None:
        return ()
    return tuple(negatives) if isinstance(negatives, tuple | list) else (negatives,)


def _of_batch(columns: dict[str, Array], block: Array) -> dict[str, Array]:
    record = _nobodys(columns, block, "negatives")
    if "owner" in columns and block.ndim == 3:
        owner = jnp.broadcast_to(jnp.arange(len(block), dtype=jnp.int32)[:, None], block.shape[:2])
        record["owner"] = jnp.reshape(owner, (-1,))
    return record


def _remembered(columns: dict[str, Array], memory: Memory, by_label: bool) -> dict[str, Array]:
    record = _nobodys(columns, memory.embeddings, "memory")
    if memory.filled is not None:
        record["filled"] = memory.filled
    if by_label:
        record |= {"labelled": jnp.ones_like(record["extra"]), "memory_label": memory.labels}
    return record


def _nobodys(columns: dict[str, Array], block: Array, name: str) -> dict[str, Array]:
    """Records of columns that match nothing and are present everywhere."""
    width = columns["embedding"].shape[-1]
    if block.ndim not in (2, 3) or block.shape[-1] != width:
        raise ValueError(f"{name} has shape {block.shape}: give [N, {width}] or [R, K, {width}]")
    block = jnp.reshape(block, (-1, width)).astype(columns["embedding"].dtype)
    others = {key: leaf for key, leaf in columns.items() if key != "embedding"}
    record = {"embedding": block, "extra": jnp.ones(len(block), bool)}
    return record | {key: _plain(key, len(block), leaf) for key, leaf in others.items()}


def _filled_up(record: dict[str, Array], like: dict[str, Array]) -> dict[str, Array]:
    """The record with all names of the other one."""
    missing = {k: _plain(k, _length(record), leaf) for k, leaf in like.items() if k not in record}
    return record | missing


def _plain(name: str, n: int, like: Array) -> Array:
    """What n columns have that are there, and of which nothing is known."""
    value = {"present": True, "filled": True, "owner": -1}.get(name, 0)
    return jnp.full((n, *like.shape[1:]), value, like.dtype)


def _length(record: dict[str, Array]) -> int:
    return len(next(iter(record.values())))
