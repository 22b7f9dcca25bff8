"""TPU: `pallas_gpu.products` for matrix units that take a whole block, its depth included, from VMEM."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu

from contrastive_jax.similarity.pallas_gpu import Outputs, like, split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Array, Float


class Config(NamedTuple):
    """rows x columns of a block, what their depth must be a multiple of, and the VMEM that it may take."""

    rows: int = 512
    columns: int = 512
    depth: int = 128
    memory: int = 64 * 2**20


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
    """As `pallas_gpu.products`. A block's rows stay in VMEM while all columns pass."""
    (m, depth), n = a.shape, b.shape[0]
    height, width = config.rows, config.columns
    grid = m // height, n // width
    numbers = int(outputs.matrix is not None), outputs.rows, outputs.columns
    counts = len(rows), len(columns), len(scalars)

    def kernel(a_ref, b_ref, *refs):
        row_refs, column_refs, scalar_refs, *results = split(refs, (*counts, *numbers))
        values = function(
            _dots(a_ref[...], b_ref[...]),
            [ref[...] for ref in row_refs],
            [ref[...] for ref in column_refs],
            [ref[0] for ref in scalar_refs],
        )
        matrix, row_terms, column_terms = split(values, numbers)
        for ref, value in zip(results[0], matrix):
            ref[...] = value.astype(ref.dtype)
        for ref, value in zip(results[1], row_terms):
            term = value.sum(1, keepdims=True)
            ref[...] = jnp.where(pl.program_id(1) == 0, term, ref[...] + term)
        for ref, value in zip(results[2], column_terms):
            ref[0] = value.sum(0, keepdims=True)

    of_rows = pl.BlockSpec((height, 1), lambda i, j: (i, 0))
    of_columns = pl.BlockSpec((1, width), lambda i, j: (0, j))
    of_parts = pl.BlockSpec((1, 1, width), lambda i, j: (i, 0, j))
    results = pl.pallas_call(
        kernel,
        out_shape=[
            *(like((m, n), outputs.matrix, a, b) for _ in range(numbers[0])),
            *[like((m, 1), jnp.float32, a, b)] * numbers[1],
            *[like((grid[0], 1, n), jnp.float32, a, b)] * numbers[2],
        ],
        grid=grid,
        in_specs=[
            pl.BlockSpec((height, depth), lambda i, j: (i, 0)),
            pl.BlockSpec((width, depth), lambda i, j: (j, 0)),
            *[of_rows] * counts[0],
            *[of_columns] * counts[1],
            *[pl.BlockSpec(memory_space=tpu.SMEM)] * counts[2],
        ],
        out_specs=[
            *[pl.BlockSpec((height, width), lambda i, j: (i, j))] * numbers[0],
            *[of_rows] * numbers[1],
            *[of_parts] * numbers[2],
        ],
        interpret=interpret,
        compiler_params=tpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=config.memory
        ),
    )(
        a,
        b,
        *(x[:, None] for x in rows),
        *(x[None, :] for x in columns),
        *(jnp.reshape(x, 1) for x in scalars),
    )
    matrix, row_sums, column_sums = split(results, numbers)
    return matrix, [x[:, 0] for x in row_sums], [x.sum((0, 1)) for x in column_sums]


def _dots(a, b):
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = (((1,), (1,)), ((), ()))
    return lax.dot_general(a, b, dimensions, precision=precision, preferred_element_type=jnp.float32)
