"""How a reduction is carried out: the keywords that all take, and what is chosen for those not given."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, NamedTuple

import jax

from contrastive_jax.similarity.blocks import block_size
from contrastive_jax.similarity.platform import platform
from contrastive_jax.similarity.scores import Needs
from contrastive_jax.similarity.tiles import Dot, Side
from contrastive_jax.similarity.travel import Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import PyTree

    from contrastive_jax.similarity.scores import Problem
    from contrastive_jax.similarity.tiles import Tile

KEEP = 2**29  # bytes a device
GATHER = 2**28  # bytes a device
KERNEL_COLUMNS = 2**18  # at a time: kernels count in 32 bits


class Engine(NamedTuple):
    """The keywords, none of which changes a result by more than rounding.

    axes: the mesh axes that examples are sharded over, the last one the nearest; those the mesh lacks are
        passed over. None: "data", "fsdp" and what the arrays' shardings say; a mesh axis of another name
        that they do not tell of, as inside `jit` on Auto axes, is refused.
    spread: mesh axes along which devices hold the same rows; they take different columns.
    block: rows and columns a tile, an int or a pair; None chooses from the tile's largest intermediate.
    communication: "ring" or "gather"; None chooses by `cheaper`.
    backend: "scan" or "pallas"; None chooses by the device.
    keep: bytes a device that products kept from the forward sweep for the backward one may take, which
        saves a fourth of the work; None is 512 MiB, 0 never keeps. It needs a `Dot` tile with a bound.
    mesh: None takes the ambient mesh (`jax.set_mesh`), else the one that the arrays lie on.
    """

    axes: str | tuple[str, ...] | None = None
    spread: str | tuple[str, ...] | None = "tensor"
    block: int | tuple[int, int] | None = None
    communication: str | None = None
    backend: str | None = None
    keep: int | None = None
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh | None = None

    @classmethod
    def of(cls, keywords: dict) -> Engine:
        """Checks names and values; ValueError says what to give instead."""
        for name in keywords:
            if name not in cls._fields:
                close = difflib.get_close_matches(name, cls._fields, n=1, cutoff=0.4)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(cls._fields)}"
                raise ValueError(f"{name}: unknown keyword; {hint}")
        engine = cls(**keywords)
        for name, known in (("communication", ("ring", "gather")), ("backend", ("scan", "pallas"))):
            value = getattr(engine, name)
            if value is not None and value not in known:
                raise ValueError(f"{name}={value!r}: give {known[0]!r}, {known[1]!r} or None")
        block = engine.block
        if block is not None:
            block = (block, block) if isinstance(block, int) else tuple(block)
            if len(block) != 2 or not all(isinstance(n, int) and n > 0 for n in block):
                raise ValueError(
                    f"block={engine.block}: give a positive int or a pair of them (rows, columns)"
                )
        if engine.keep is not None and engine.keep < 0:
            raise ValueError(f"keep={engine.keep}: give a number of bytes, 0 to keep nothing")
        return engine._replace(block=block)


class Plan(NamedTuple):
    """What is chosen: rows and columns a tile, the backend, how columns meet rows, what is kept."""

    block: tuple[int, int]
    backend: str
    communication: str | None
    keeps: bool


def choose(
    engine: Engine, tile: Tile, rows: PyTree, groups: Sequence[PyTree], shared: PyTree, ring: Ring, sizes
) -> Plan:
    """sizes: the rows of a device, and the columns of each group that it has at a time."""
    row_count, column_counts = sizes
    communication = engine.communication or cheaper(ring, groups[0], row_count, column_counts[0])
    if ring.size == 1:
        communication = None
    own = column_counts[0] * (ring.size if communication == "gather" else 1)
    longest = max(own, *column_counts[1:]) if len(column_counts) > 1 else own
    block = engine.block or block_size(tile, rows, groups[0], shared, (row_count, longest))
    keep = KEEP if engine.keep is None else engine.keep
    kept = 4 * row_count * (column_counts[0] * ring.size + sum(column_counts[1:]))
    keeps = getattr(tile, "bound", None) is not None and kept <= keep
    return Plan(block, "scan", communication, keeps)


def by_kernels(engine: Engine, problem: Problem, apart: Sequence[tuple[list, list]], reduction: str) -> bool:
    """Whether fused kernels do a device's sweeps: if asked for, or on a GPU for narrow embeddings.

    apart: the floating and other leaves of shared, rows and columns. ValueError for kernels that are
    asked for and cannot run the reduction or the tile.
    """
    narrow = any(x.dtype.itemsize == 2 for x in apart[1][0])
    if engine.backend is None and not (platform() == "gpu" and narrow):
        return False
    if engine.backend == "scan":
        return False
    reason = _no_kernels(problem, apart, reduction)
    if reason and engine.backend == "pallas":
        raise ValueError(f"backend='pallas': {reason}; take backend='scan' or None")
    return reason is None


def _no_kernels(problem: Problem, apart, reduction: str) -> str | None:
    if reduction not in ("cross_entropy", "total"):
        return f"{reduction} has no kernels"
    if not isinstance(problem.tile, Dot):
        return "kernels run Dot tiles alone"
    if reduction == "cross_entropy" and problem.tile.bound is None:
        return "without a bound of the logits there is no kernel"
    from contrastive_jax.similarity import pallas  # slow to import, and not everywhere to be had

    shared, rows, columns = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), list(apart[:3]))
    needs = Needs(*((True,) * len(side[0]) for side in (shared, rows, columns)))
    sides = (Side(*side, jax.ShapeDtypeStruct(side[0][0].shape[:1], "int32")) for side in (rows, columns))
    return pallas.unsupported(problem, needs, shared, *sides)


# Of a device: float operations a second that products reach, bytes a second to the next device, seconds
# until the first byte. What matters is their order of magnitude: about 1,500 columns a device hide a hop.
RATES = {"gpu": (6e14, 4e11, 1e-5), "tpu": (3e14, 2e11, 2e-6), "cpu": (5e10, 5e9, 1e-5)}


def cheaper(ring: Ring, columns: PyTree, row_count: int, column_count: int) -> str:
    """ "ring" where a hop hides behind the work on the columns before it, or gathering takes too much.

    A hop moves s bytes a column; the work is 2 e operations a pair of an e-number record. A ring holds one
    device's columns at a time and sends 8 s (forward, and backward with a float32 gradient); gathering
    holds all columns and their gradient and sends 6 s, once, with nothing to hide behind.
    """
    operations, bytes_a_second, latency = RATES.get(platform(), RATES["gpu"])
    leaves = jax.tree.leaves(columns)
    numbers = sum(math.prod(x.shape[1:]) for x in leaves)
    size = sum(math.prod(x.shape[1:]) * x.dtype.itemsize for x in leaves)
    work = 2 * numbers * row_count * column_count / operations
    hop = latency + size * column_count / bytes_a_second
    gathered = (size + 4 * numbers) * column_count * ring.size
    return "ring" if work >= hop or gathered > GATHER else "gather"
