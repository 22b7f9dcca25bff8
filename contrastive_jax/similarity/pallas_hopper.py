"""Hopper GPUs: `pallas_gpu.products` for kernels that write a matrix, by Mosaic.

Two warpgroups take turns: while one multiplies its block, the other applies the function to its last one,
so that the matrix units do not wait. A third fetches operands.
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
    """rows x columns of a warpgroup's block, depth of a step, steps in flight for each warpgroup, so many
    blocks of columns visited together, and how much of a block the function sees at once.

    The function is applied piece by piece: on a whole block its intermediates would not fit registers.
    """

    rows: int = 128
    columns: int = 128
    depth: int = 64
    stages: int = 3
    group: int = 8
    piece: tuple[int, int] = (64, 64)


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
    steps, stages = a.shape[1] // config.depth, config.stages
    grid = a.shape[0] // config.rows, b.shape[0] // config.columns
    given, results = refs[: sum(counts)], refs[sum(counts) :]
    ring = partial(mosaic.SMEM, dtype=a.dtype, transforms=_layout(config.depth, a.dtype))
    pieces = partial(
        mosaic.SMEM, dtype=results[0].dtype, transforms=_layout(config.piece[1], results[0].dtype)
    )

    def place(turn):
        i, j = mosaic.planar_snake(turn, grid, 1, config.group)
        return i * config.rows, j

    @partial(
        pl.run_scoped,
        a_ring=ring((2, stages, config.rows, config.depth)),
        b_ring=ring((2, stages, config.columns, config.depth)),
        filled=mosaic.Barrier(num_arrivals=2, num_barriers=2 * stages),
        emptied=mosaic.Barrier(num_barriers=2 * stages),
        staging=pieces((2, 2, *config.piece)),
        collective_axes="warpgroup",
    )
    def _scope(a_ring, b_ring, filled, emptied, staging):
        me = lax.axis_index("warpgroup")
        first, width = lax.axis_index("blocks"), lax.axis_size("blocks")
        turns = lax.div(grid[0] * grid[1] - 1 - first, width) + 1  # blocks of this processor

        @pl.when(me == 2)
        def _fetch():
            mosaic.set_max_registers(40, action="decrease")

            def block(turn, _):
                top, j = place(first + turn * width)
                owner, before = lax.rem(turn, 2), lax.div(turn, 2) * steps

                def step(k, _):
                    slot = lax.rem(before + k, stages)
                    at = owner * stages + slot

                    @pl.when(before + k >= stages)
                    def _():
                        mosaic.barrier_wait(emptied.at[at])

                    depth = pl.ds(k * config.depth, config.depth)
                    rows, columns = pl.ds(top, config.rows), pl.ds(j * config.columns, config.columns)
                    mosaic.copy_gmem_to_smem(a.at[rows, depth], a_ring.at[owner, slot], filled.at[at])
                    mosaic.copy_gmem_to_smem(b.at[columns, depth], b_ring.at[owner, slot], filled.at[at])

                lax.fori_loop(0, steps, step, None)

            lax.fori_loop(0, turns, block, None)

        @pl.when(me < 2)
        def _compute():
            mosaic.set_max_registers(232, action="increase")

            def block(turn, _):
                top, j = place(first + (2 * turn + me) * width)
                before = turn * steps

                def multiply(sums_ref):
                    def step(k, _):
                        slot = lax.rem(before + k, stages)
                        at = me * stages + slot
                        mosaic.barrier_wait(filled.at[at])
                        mosaic.wgmma(
                            sums_ref, a_ring.at[me, slot], mosaic.transpose_ref(b_ring.at[me, slot], (1, 0))
                        )
                        mosaic.wgmma_wait(1)  # the step before is done, this one may go on

                        @pl.when(k > 0)
                        def _():
                            mosaic.barrier_arrive(emptied.at[me * stages + lax.rem(before + k - 1, stages)])

                    lax.fori_loop(0, steps, step, None)
                    mosaic.wgmma_wait(0)
                    mosaic.barrier_arrive(emptied.at[me * stages + lax.rem(before + steps - 1, stages)])

                _finish(function, counts, config, multiply, given, results, staging.at[me], top, j)

            lax.fori_loop(0, lax.div(turns + 1 - me, 2), block, None)
            mosaic.wait_smem_to_gmem(0, wait_read_only=True)


def _finish(function: Callable, counts, config: Config, multiply: Callable, given, results, staging, top, j):
    """One block: the product, and the function on its pieces."""
    row_refs, column_refs, scalar_refs, (matrix, *sums) = split((*given, *results), (*counts, len(results)))
    height, width = config.piece

    @partial(pl.run_scoped, sums_ref=mosaic.ACC((config.rows, config.columns), jnp.float32))
    def _(sums_ref):
        of_rows = [
            [_load(ref, pl.ds(top + y, height), 1) for ref in row_refs] for y in range(0, config.rows, height)
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
    if signature(mosaic.load).parameters["idx"].default is Parameter.empty:  # before jax 0.11
        return mosaic.load(ref, at, layout=layout, optimized=False)
    return mosaic.load(ref.at[at], layout=layout, optimized=False)
