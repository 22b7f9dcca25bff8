"""GPU kernels: blocks of inner products, each handed to a function while it is still in registers.

By Triton, which also runs interpreted anywhere; `pallas_hopper` writes a matrix faster where it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Array, Float, PyTree


class Config(NamedTuple):
    """rows x columns of a block, depth of a step of its product, and how the compiler lays it out.

    group: so many blocks of rows are visited together, so that their columns are still in the cache.
    """

    rows: int = 128
    columns: int = 128
    depth: int = 64
    warps: int = 4
    stages: int = 3
    group: int = 64


class Outputs(NamedTuple):
    """What a function of a block returns, in this order: matrices [r, c] of dtype `matrix` (None: none,
    else one), then [r, c] to be summed over all columns, then [r, c] to be summed over all rows."""

    matrix: Any
    rows: int
    columns: int


def products(
    function: Callable[..., Sequence[Array]],
    a: Float[Array, "R d"],
    b: Float[Array, "C d"],
    rows: Sequence[Array],
    columns: Sequence[Array],
    scalars: Sequence[Array],
    outputs: Outputs,
    config: Config,
    interpret: bool,
) -> tuple[list[Array], list[Array], list[Array]]:
    """function(dots [r, c] float32, rows [r], columns [c], scalars) of every block of a b^T.

    Returns [the matrix] [R, C], sums [R] and sums [C]. R and C must be multiples of the block and d of
    its depth. Nothing else of size R x C is kept. Sums over blocks are made in a fixed order.
    """
    (m, depth), n = a.shape, b.shape[0]
    grid = m // config.rows, n // config.columns
    numbers = int(outputs.matrix is not None), outputs.rows, outputs.columns
    shapes = [(m, n)] * numbers[0] + [(grid[1], m)] * numbers[1] + [(grid[0], n)] * numbers[2]
    dtypes = [outputs.matrix] * numbers[0] + [jnp.float32] * sum(numbers[1:])
    counts = len(rows), len(columns), len(scalars)

    def kernel(a_ref, b_ref, *refs):
        i, j = _place(pl.program_id(0), grid, config.group)
        at_rows, at_columns = pl.ds(i * config.rows, config.rows), pl.ds(j * config.columns, config.columns)
        row_refs, column_refs, scalar_refs, *results = split(refs, (*counts, *numbers))
        values = function(
            _dots(a_ref, b_ref, at_rows, at_columns, depth, config),
            [ref[at_rows] for ref in row_refs],
            [ref[at_columns] for ref in column_refs],
            [ref[0] for ref in scalar_refs],
        )
        matrix, row_terms, column_terms = split(values, numbers)
        for ref, value in zip(results[0], matrix):
            ref[at_rows, at_columns] = value.astype(ref.dtype)
        for ref, value in zip(results[1], row_terms):
            ref[j, at_rows] = value.sum(1)
        for ref, value in zip(results[2], column_terms):
            ref[i, at_columns] = value.sum(0)

    results = pl.pallas_call(
        kernel,
        out_shape=[like(shape, dtype, a, b) for shape, dtype in zip(shapes, dtypes)],
        grid=(grid[0] * grid[1],),
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=config.warps, num_stages=config.stages),
    )(a, b, *rows, *columns, *(jnp.reshape(x, 1) for x in scalars))
    matrix, row_sums, column_sums = split(results, numbers)
    return matrix, [x.sum(0) for x in row_sums], [x.sum(0) for x in column_sums]


def _dots(a_ref, b_ref, at_rows, at_columns, depth: int, config: Config):
    precision = lax.Precision.HIGHEST if a_ref.dtype == jnp.float32 else None

    def step(k, sums):
        at = pl.ds(k * config.depth, config.depth)
        a, b = a_ref[at_rows, at], b_ref[at_columns, at]
        return sums + lax.dot_general(
            a, b, (((1,), (1,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
        )

    start = jnp.zeros((config.rows, config.columns), jnp.float32)
    return lax.fori_loop(0, depth // config.depth, step, start)


def _place(step, grid: tuple[int, int], group: int):
    """Which block: down a group of block rows first, then to the next block of columns."""
    group = min(group, grid[0])
    width = group * grid[1]
    first = lax.div(step, width) * group
    inside = lax.rem(step, width)
    height = jnp.minimum(grid[0] - first, group)
    return first + lax.rem(inside, height), lax.div(inside, height)


def like(shape: tuple[int, ...], dtype, *operands) -> jax.ShapeDtypeStruct:
    """A result's type: inside a `shard_map` it varies over the mesh axes that an operand varies over."""
    axes = _varying_axes(operands)
    if not axes:
        return jax.ShapeDtypeStruct(shape, dtype)
    return jax.ShapeDtypeStruct(
        shape, dtype, manual_axis_type=type(jax.typeof(operands[0]).manual_axis_type)(varying=axes)
    )


def varying(tree: PyTree, *operands) -> PyTree:
    """Values that are alike on all devices, marked as ones that are about to vary as the operands do."""
    axes = tuple(_varying_axes(operands))
    return jax.tree.map(lambda x: lax.pcast(x, axes, to="varying"), tree) if axes else tree


def _varying_axes(operands) -> frozenset:
    return frozenset().union(*(jax.typeof(x).manual_axis_type.varying for x in operands))


def split(items: Sequence, counts: Sequence[int]) -> list[list]:
    parts, start = [], 0
    for count in counts:
        parts.append(list(items[start : start + count]))
        start += count
    return parts
