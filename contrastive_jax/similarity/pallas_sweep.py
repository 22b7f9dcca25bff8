"""One function of pairs swept over all rows and columns of a device by kernels, some rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from contrastive_jax.similarity import pallas_gpu, pallas_hopper, pallas_tpu
from contrastive_jax.similarity.pallas_gpu import Outputs
from contrastive_jax.similarity.pallas_tile import Pairs, trace
from contrastive_jax.similarity.platform import platform
from contrastive_jax.similarity.scan import padded
from contrastive_jax.similarity.scores import add

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Array, Float, PyTree

    from contrastive_jax.similarity.scores import Problem
    from contrastive_jax.similarity.tiles import Side


class Kernels(NamedTuple):
    """Which kernels run, on so many rows at a time: for sums, and where a matrix is written.

    hopper: for matrices instead of `blocks`; None where the device has no such kernel. matrix_rows None:
    so many that the matrix has at most 16 bytes an element of the columns' embeddings.
    """

    blocks: pallas_gpu.Config | pallas_tpu.Config = pallas_gpu.Config()
    hopper: pallas_hopper.Config | None = None
    interpret: bool = False
    rows: int = 16384
    matrix_rows: int | None = None

    @classmethod
    def of(cls, dtype) -> Kernels:
        """What suits this process's device; without an accelerator kernels are interpreted, slowly."""
        if platform() == "tpu":
            return cls(pallas_tpu.Config())
        if platform() != "gpu":
            return cls(interpret=True)
        capability = str(getattr(jax.devices()[0], "compute_capability", ""))
        fits = capability.startswith("9.") and jnp.finfo(dtype).bits == 16
        return cls(hopper=pallas_hopper.Config() if fits else None)

    def plan(self, rows: int, columns: int, depth: int, matrix: bool) -> Chunks:
        """How rows are cut, and how far rows and columns are padded."""
        configs = [self.blocks] + [self.hopper] * (matrix and self.hopper is not None)
        unit, width = (
            int(np.lcm.reduce([getattr(c, side) for c in configs])) for side in ("rows", "columns")
        )
        longest = self.rows
        if matrix:
            longest = self.matrix_rows or _whole_waves(min(max(8 * depth, 512), 8192), depth)
        chunk = max(longest // unit, 1) * unit
        padded = -(-rows // unit) * unit
        return Chunks(padded // chunk, chunk, padded % chunk, -(-columns // width) * width)


class Chunks(NamedTuple):
    """So many chunks of so many rows, what is left over, and the columns; the latter two with padding."""

    number: int
    rows: int
    rest: int
    columns: int

    @property
    def sizes(self) -> tuple[int, int]:
        return self.number * self.rows + self.rest, self.columns


def _whole_waves(longest: int, depth: int) -> int:
    """Rows, up to `longest`, at which a product with d columns fills a GPU's processors.

    Libraries cut such a product into pieces of 128 x 256, one a processor at a time.
    """
    processors = getattr(jax.devices()[0], "core_count", None)
    wave = (processors or 0) // -(-depth // 256) * 128
    return longest // wave * wave if 0 < wave <= longest else longest


class Given(NamedTuple):
    """What a function of pairs gets of the rows, the columns or `shared`: vectors or scalars.

    index: as in `Side`; tree: the record without its embedding; extra: whatever the sweep knows besides.
    """

    index: Any
    tree: PyTree
    extra: PyTree


class Work(NamedTuple):
    """A traced function of pairs, and what it reads: embeddings, vectors of rows and columns, scalars."""

    traced: Pairs
    embeddings: tuple[Array, Array]
    rows: list
    columns: list
    scalars: list
    kernels: Kernels


class Swept(NamedTuple):
    """What all pairs add up to: the matrix's products with columns and with rows, and the terms."""

    in_rows: Float[Array, "R d"] | None
    in_columns: Float[Array, "C d"] | None
    row: PyTree
    column: PyTree


def prepare(
    problem: Problem,
    function: Callable,
    shared,
    rows: Side,
    columns: Side,
    extras: Sequence,
    kernels: Kernels,
) -> Work:
    """function(dots [r, c], rows: Given, columns: Given, shared: Given) -> matrix, row terms, column terms.

    Its values are [r, c]; terms are to be summed over the other side. Raises UnsupportedError.
    """
    splits = problem.row_split, problem.column_split
    apart = [
        problem.tile.apart(split.together(side.floating, side.others))
        for split, side in zip(splits, (rows, columns))
    ]
    trees = [tree for _, tree in apart] + [problem.shared_split.together(*shared)]
    indices = rows.index, columns.index, ()
    plain = [_plain(Given(*given)) for given in zip(indices, trees, extras)]

    def flat(dots, *lists):
        return function(dots, *(restore(values) for (_, restore), values in zip(plain, lists)))

    vectors = [leaves for leaves, _ in plain]
    return Work(trace(flat, *vectors), tuple(x for x, _ in apart), *vectors, kernels)


def _plain(given: Given) -> tuple[list, Callable]:
    """Its leaves as kernels read them, in 32 bits; and what makes a tree of them, bits being bits again."""
    leaves, structure = jax.tree.flatten(given)
    dtypes = [jnp.result_type(x) for x in leaves]

    def wide(dtype):
        if dtype.itemsize >= 4:
            return dtype
        return jnp.float32 if jnp.issubdtype(dtype, jnp.floating) else jnp.int32

    def restore(values):
        return structure.unflatten([v != 0 if dtype == jnp.bool_ else v for v, dtype in zip(values, dtypes)])

    def widened(x, dtype):
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(x.shape, wide(dtype))
        return jnp.asarray(x, wide(dtype))

    return [widened(x, dtype) for x, dtype in zip(leaves, dtypes)], restore


def sweep(work: Work, wants: tuple[bool, bool] | None = None) -> Swept:
    """Every pair once. wants: which embeddings get the matrix's products with the other side's."""
    (a, b), traced, use = work.embeddings, work.traced, work.kernels
    sizes, depth = (len(a), len(b)), a.shape[1]
    chunks = use.plan(*sizes, depth, wants is not None)
    a, rows = _filled(a, work.rows, traced.rows, chunks.sizes[0])
    b, columns = _filled(b, work.columns, traced.columns, chunks.sizes[1])
    a, b = (jnp.pad(x, ((0, 0), (0, -depth % use.blocks.depth))) for x in (a, b))
    scalars = [work.scalars[i] for i in traced.scalars]

    def visit(found: Swept, start, size: int) -> Swept:
        own, own_rows = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), (a, rows))
        matrix, row_sums, column_sums = _products(work, own, b, own_rows, columns, scalars)
        in_rows = None if found.in_rows is None else _product(matrix, b, 1)
        in_columns = None if found.in_columns is None else _product(matrix, own, 0)

        def put(whole, part):
            return lax.dynamic_update_slice_in_dim(whole, part, start, 0)

        in_rows, row = jax.tree.map(put, (found.in_rows, found.row), (in_rows, row_sums))
        in_columns, column = add((found.in_columns, found.column), (in_columns, column_sums))
        return Swept(in_rows, in_columns, row, column)

    found = pallas_gpu.varying(_nothing_yet(traced, a.shape, b.shape, wants or (False, False)), a, b)
    if chunks.rest:  # first, so that its matrix is gone when the loop begins
        found = visit(found, chunks.number * chunks.rows, chunks.rest)
    if chunks.number:
        whole = lambda i, found: visit(found, i * chunks.rows, chunks.rows)  # noqa: E731
        found = lax.fori_loop(0, chunks.number, whole, found)
    row, column = (
        terms.unflatten([x[:size] for x in sums])
        for terms, sums, size in zip(traced.terms, (found.row, found.column), sizes)
    )
    products = (
        None if x is None else x[:size, :depth] for x, size in zip((found.in_rows, found.in_columns), sizes)
    )
    return Swept(*products, row, column)


def _nothing_yet(traced: Pairs, rows: tuple, columns: tuple, wants: tuple[bool, bool]) -> Swept:
    matrices = [
        jnp.zeros(shape, jnp.float32) if want else None for shape, want in zip((rows, columns), wants)
    ]
    sums = [
        [jnp.zeros(shape[0], jnp.float32)] * terms.num_leaves
        for terms, shape in zip(traced.terms, (rows, columns))
    ]
    return Swept(*matrices, *sums)


def _products(work: Work, a, b, rows, columns, scalars):
    """One chunk of rows: the matrix if there is one, the sums of its rows, and of its part of the columns."""
    traced, use = work.traced, work.kernels
    counts = int(traced.has_matrix), *(terms.num_leaves for terms in traced.terms)
    if traced.has_matrix and use.hopper is not None and not counts[2]:
        matrix, sums = pallas_hopper.products(
            traced.evaluate, a, b, rows, columns, scalars, a.dtype, counts[1], use.hopper
        )
        return matrix, sums, []
    outputs = Outputs(a.dtype if traced.has_matrix else None, *counts[1:])
    kernel = pallas_tpu if isinstance(use.blocks, pallas_tpu.Config) else pallas_gpu
    matrix, row_sums, column_sums = kernel.products(
        traced.evaluate, a, b, rows, columns, scalars, outputs, use.blocks, use.interpret
    )
    return matrix[0] if matrix else None, row_sums, column_sums


def _filled(embedding: Array, vectors: list, read: Sequence[int], size: int) -> tuple[Array, list]:
    """An embedding and those vectors that are read, the last example repeated up to `size`, its index -1."""
    filling = size - len(embedding)

    def filled(i):
        if i == 0:  # the index
            return jnp.pad(vectors[i], (0, filling), constant_values=-1)
        return padded(vectors[i], filling)

    return padded(embedding, filling), [filled(i) for i in read]


def _product(matrix: Float[Array, "r c"], embedding: Float[Array, "n d"], contracted: int):
    precision = lax.Precision.HIGHEST if embedding.dtype == jnp.float32 else None
    dimensions = (((contracted,), (0,)), ((), ()))
    return lax.dot_general(
        matrix, embedding, dimensions, precision=precision, preferred_element_type=jnp.float32
    )
