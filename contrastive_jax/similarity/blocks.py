"""How large a tile is: as large as what it computes on the way fits a budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jax.extend.core import jaxprs_in_params

from contrastive_jax.similarity.platform import platform
from contrastive_jax.similarity.tiles import Tile, trace

if TYPE_CHECKING:
    from jaxtyping import PyTree

LARGEST = 4096
SMALLEST = 64
BUDGET = {"cpu": 2**22, "gpu": 2**26, "tpu": 2**25}  # bytes of one intermediate


def block_size(
    tile: Tile, rows: PyTree, columns: PyTree, shared: PyTree, sizes: tuple[int, int]
) -> tuple[int, int]:
    """The largest power of two whose tile keeps every intermediate within the backend's budget.

    sizes: the rows and columns that a device has at a time; a side that is shorter takes a shorter block.
    """
    budget = BUDGET.get(platform(), BUDGET["gpu"])
    block = LARGEST
    while block > SMALLEST:
        closed, _ = trace(tile, rows, columns, shared, block, block)
        if max(_intermediate_bytes(closed.jaxpr), default=0) <= budget:
            break
        block //= 2
    return tuple(-(-size // -(-size // block)) for size in sizes)  # blocks alike, so that little is padding


def _intermediate_bytes(jaxpr) -> Iterator[int]:
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            if hasattr(variable.aval, "shape"):
                yield variable.aval.size * getattr(variable.aval.dtype, "itemsize", 8)
        for inner in jaxprs_in_params(equation.params):
            yield from _intermediate_bytes(inner)
