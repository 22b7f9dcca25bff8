"""Hopper GPUs: `pallas_gpu.products` for kernels that write a matrix, by Mosaic.

A block is two warpgroups' halves of `rows`; a third warpgroup fetches the next block's operands while the
function is applied.
"""

from __future__ import annotations

from functools import partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as mosaic

from contrastive_jax.similarity.pallas_gpu import like, split

if TYPE_CHECKING:
    from collections.abc import Callable


class Config(NamedTuple):
    """rows x columns of a block (each warpgroup has half of the rows), depth of a step, steps in flight,
    so many blocks of columns visited together, how much of a block the function sees at once, and how many
    steps may still be multiplied when the next one starts.

    The function is applied piece by piece: on a whole block its intermediates would not fit registers.
    """

    rows: int = 256
    columns: int = 128
    depth: int = 64
    stages: int = 4
    group: int = 16
    piece: tuple[int, int] = (64, 64)
    pending: int = 0


def products(function: Callable, a, b, rows, columns, scalars, dtype, sums: int, config: Config):
    """The matrix [R, C] and `sums` sums [R] of what `function` returns; see `pallas_gpu.products`."""
    m, n = len(a), len(b)
    shapes = [((m, n), dtype)] + [((n // config.columns, m), jnp.float32)] * sums
    kernel = mosaic.kernel(
        partial(_kernel, function, (len(rows), len(columns), len(scalars)), config),
        out_type=[like(*shape, a, b) for shape in shapes],
        grid=(jax.devices()[0].core_count,),
        grid_names=("blocks",),
        num_threads=3,
        thread_name="warpgroup",
        compiler_params=mosaic.CompilerParams(
            lowering_semantics=mosaic.LoweringSemantics.Warpgroup, approx_math=True
        ),
    )
    matrix, *partial_sums = kernel(a, b, *rows, *columns, *(jnp.reshape(x, 1) for x in scalars))
    return matrix, [x.sum(0) for x in partial_sums]


def _kernel(function: Callable, counts: tuple, config: Config, a, b, *refs):
    """Every processor takes block after block."""
    grid = a.shape[0] // config.rows, b.shape[0] // config.columns
    given, results = refs[: sum(counts)], refs[sum(counts) :]
    pipeline = partial(_pipeline, a.dtype, a.shape[1], config)
    dtype, half = results[0].dtype, config.rows // 2

    @partial(
        pl.run_scoped,
        allocations=pipeline(lambda *_, **__: None, lambda *_, **__: None).get_allocations(a, b),
        staging=mosaic.SMEM((2, 2, *config.piece), dtype, transforms=_layout(config.piece[1], dtype)),
        collective_axes="warpgroup",
    )
    def _scope(allocations, staging):
        me = lax.axis_index("warpgroup")

        @mosaic.nd_loop((grid[0] * grid[1],), collective_axes="blocks")
        def _blocks(info):
            i, j = mosaic.planar_snake(info.index[0], grid, 1, config.group)
            top = i * config.rows + me * half

            def finish(multiply):
                _finish(function, counts, config, multiply, given, results, staging.at[me], top, j)

            def multiply(_, a_block, b_block, sums_ref):
                mine = a_block.at[pl.ds(me * half, half)]
                mosaic.wgmma(sums_ref, mine, mosaic.transpose_ref(b_block, (1, 0)))
                mosaic.wgmma_wait(config.pending)
                return sums_ref

            rows = pl.ds(i * config.rows, config.rows)
            columns = pl.ds(j * config.columns, config.columns)
            pipeline(multiply, finish)(a.at[rows, :], b.at[columns, :], allocations=allocations)

    mosaic.wait_smem_to_gmem(0, wait_read_only=True)


def _finish(function: Callable, counts, config: Config, multiply: Callable, given, results, staging, top, j):
    """A warpgroup's half of a block: the product, then the function on its pieces."""
    row_refs, column_refs, scalar_refs, (matrix, *sums) = split((*given, *results), (*counts, len(results)))
    half, (height, width) = config.rows // 2, config.piece

    @partial(pl.run_scoped, sums_ref=mosaic.ACC((half, config.columns), jnp.float32))
    def _(sums_ref):
        of_rows = [
            [_load(ref, pl.ds(top + y, height), 1) for ref in row_refs] for y in range(0, half, height)
        ]
        of_all = [ref[0] for ref in scalar_refs]
        multiply(sums_ref)
        dots = sums_ref[...]
        totals = [[] for _ in of_rows]
        for x in range(0, config.columns, width):
            at_columns = pl.ds(j * config.columns + x, width)
            of_columns = [_load(ref, at_columns, 0) for ref in column_refs]
            for piece, of_piece in enumerate(of_rows):
                y = piece * height
                value, *terms = function(dots[y : y + height, x : x + width], of_piece, of_columns, of_all)
                totals[piece].append([term.sum(1) for term in terms])
                slot = staging.at[(piece + x // width * len(of_rows)) % 2]
                _send(value, slot, matrix.at[pl.ds(top + y, height), at_columns])
        for piece, found in enumerate(totals):
            for ref, parts in zip(sums, zip(*found), strict=True):
                ref[j, pl.ds(top + piece * height, height)] = sum(parts[1:], parts[0])


def _pipeline(dtype, depth: int, config: Config, body: Callable, context: Callable):
    """Fetches the next steps' operands while a step is multiplied."""
    spec = partial(
        mosaic.BlockSpec,
        index_map=lambda k: (0, k),
        transforms=_layout(config.depth, dtype),
        memory_space=mosaic.SMEM,
        delay_release=config.pending,
    )
    return mosaic.emit_pipeline_warp_specialized(
        body,
        grid=(depth // config.depth,),
        memory_registers=40,
        in_specs=[spec((size, config.depth)) for size in (config.rows, config.columns)],
        wg_axis="warpgroup",
        num_compute_wgs=2,
        max_concurrent_steps=config.stages,
        compute_context=context,
    )


def _send(value, slot, target) -> None:
    """By way of one of two buffers, so that one is written while the other is on its way."""
    mosaic.wait_smem_to_gmem(1, wait_read_only=True)
    slot[...] = value.astype(target.dtype)
    mosaic.commit_smem()
    mosaic.copy_smem_to_gmem(slot, target)


def _layout(width: int, dtype) -> tuple:
    size = jnp.dtype(dtype).itemsize
    swizzle = mosaic.find_swizzle(width * size * 8)
    return mosaic.TilingTransform((8, swizzle // size)), mosaic.SwizzleTransform(swizzle)


def _load(ref, at, axis: int):
    """A vector of a block's rows (axis 1 is gone) or columns, laid out as its sums are."""
    layout = mosaic.Layout.WGMMA.reduce(axis)
    index = signature(mosaic.load).parameters.get("idx")
    if index is not None and index.default is Parameter.empty:  # before jax 0.11
        return mosaic.load(ref, at, layout=layout, optimized=False)
    return mosaic.load(ref.at[at], layout=layout, optimized=False)
