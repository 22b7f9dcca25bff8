"""One device's sweeps over a `Dot` tile by kernels: what `scan` does with the steps of these names.

No pair's score is kept. The forward sums E_ij = exp(l_ij - shift) along rows and columns while the product
is in registers. The backward computes the product again, forms each pair's cotangent in float32 and writes
it, in the embeddings' dtype, for some rows at a time; library products add it to the gradients. (In float16
it is written times a power of two, by which the products are divided: `_power`.) That makes 2 + 6 products
of R x C x d, and 6 for a total with its gradients.

problem, needs, shared, rows, columns stand for what they are in `steps`. Gradients are lists as long as the
floating leaves, in float32, with None where none is wanted.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastive_jax.similarity.half import is_half, power
from contrastive_jax.similarity.pallas_math import LOG2_E, in_powers_of_two
from contrastive_jax.similarity.pallas_sweep import Given, Kernels, prepare, sweep
from contrastive_jax.similarity.pallas_tile import UnsupportedError, is_soft, scores, slopes
from contrastive_jax.similarity.scores import Needs, Problem, pairs
from contrastive_jax.similarity.steps import ShiftedSums, SideCotangents
from contrastive_jax.similarity.tiles import Dot, Side, products

if TYPE_CHECKING:
    from jaxtyping import Array, Float


SAMPLE = 64  # rows and columns


class Common(NamedTuple):
    """What all pairs share: see `in_powers_of_two` and `_power`."""

    exponent: Any
    power: Any


def unsupported(problem: Problem, needs: Needs, shared, rows: Side, columns: Side) -> str | None:
    """Why the sweeps below cannot serve a tile; None where they can. Arrays may be shapes with dtypes.

    Embeddings must be [n, d] in float32, bfloat16 or float16, other leaves one number an example, the
    leaves of `shared` scalars, and the tile nothing but arithmetic on each pair.
    """
    if not isinstance(problem.tile, Dot):
        return "the tile is no Dot"
    splits = (problem.row_split, rows), (problem.column_split, columns)
    embeddings = [problem.tile.apart(split.together(x.floating, x.others))[0] for split, x in splits]
    for x in embeddings:
        if x.ndim != 2 or x.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
            return f"embeddings are {x.dtype}{list(x.shape)}"
    if embeddings[0].dtype != embeddings[1].dtype:
        return f"embeddings are {embeddings[0].dtype} in rows and {embeddings[1].dtype} in columns"
    number = jax.ShapeDtypeStruct((), jnp.float32)
    common = Common(number, number if is_half(embeddings[0]) else ())
    extras = [SideCotangents(*[jax.ShapeDtypeStruct(x.shape[:1], jnp.float32)] * 4) for x in embeddings]
    try:
        prepare(
            problem, partial(_pulled, problem, needs), shared, rows, columns, (*extras, common), Kernels()
        )
    except UnsupportedError as error:
        return str(error)
    return None


def shifted_sums(
    problem: Problem,
    shared,
    shift: Float[Array, ""],
    rows: Side,
    columns: Side,
    *,
    of_columns: bool = True,
    kernels: Kernels | None = None,
) -> tuple[ShiftedSums, ShiftedSums | None]:
    """`ShiftedSums` of the rows, and of the columns if they are asked for, with one exponential a pair."""
    problem, kernels = _suited(problem, rows, columns, kernels, matrix=False)

    def terms(dots, row: Given, column: Given, common: Given):
        found = _found(problem, scores(problem.tile, dots, row.tree, column.tree, common.tree), row, column)
        exponentials = jnp.exp2(found.logits * LOG2_E - common.extra)
        anything = weighted = mass = None
        if found.counted is not None:
            exponentials = jnp.where(found.counted, exponentials, 0)
            anything = found.counted.astype(jnp.float32)
        if found.targets is not None and not problem.diagonal:
            weighted = jnp.where(found.targets != 0, found.targets * found.logits, 0)
            mass = found.targets
        sums = ShiftedSums(exponentials, weighted, mass, anything)
        return None, sums, sums if of_columns else None

    exponent, factor = in_powers_of_two(shift)
    swept = sweep(prepare(problem, terms, shared, rows, columns, ((), (), exponent), kernels))
    return _complete(swept.row, factor), _complete(swept.column, factor) if of_columns else None


def statistics_gradient(
    problem: Problem,
    needs: Needs,
    shared,
    shift: Float[Array, ""],
    rows: tuple[Side, SideCotangents],
    columns: tuple[Side, SideCotangents | None],
    *,
    kernels: Kernels | None = None,
) -> tuple[list, list, list]:
    """What `steps.statistics_gradient` with a shift adds to the gradients of (shared, rows, columns)."""
    (rows, row), (columns, column) = rows, columns
    problem, kernels = _suited(problem, rows, columns, kernels, matrix=True)
    exponent, factor = in_powers_of_two(shift)
    scaling = _power(problem, shared, rows, columns, shift, row, column)
    extras = _used(row, factor), _used(column, factor), Common(exponent, scaling)
    function = partial(_pulled, problem, needs)
    work = prepare(problem, function, shared, rows, columns, extras, kernels)
    return _gradients(problem, needs, work, scaling)[1:]


def total(
    problem: Problem, shared, rows: Side, columns: Side, *, kernels: Kernels | None = None
) -> Float[Array, ""]:
    """The sum of the tile's values over the pairs that take part."""
    problem, kernels = _suited(problem, rows, columns, kernels, matrix=False)

    def terms(dots, row: Given, column: Given, common: Given):
        found = _found(problem, scores(problem.tile, dots, row.tree, column.tree, common.tree), row, column)
        return None, _kept(found.valid, found.logits), None

    return sweep(prepare(problem, terms, shared, rows, columns, ((), (), ()), kernels)).row.sum()


def total_with_gradient(
    problem: Problem, needs: Needs, shared, rows: Side, columns: Side, *, kernels: Kernels | None = None
) -> tuple[Float[Array, ""], list, list, list]:
    """`total`, and its gradients in shared, rows and columns, in one sweep."""
    problem, kernels = _suited(problem, rows, columns, kernels, matrix=True)

    def terms(dots, row: Given, column: Given, common: Given):
        trees = row.tree, column.tree, common.tree
        scored, in_dots, in_leaves = slopes(problem.tile, dots, trees, _besides(problem, needs))
        found = _found(problem, scored, row, column)
        slope, *in_leaves = jax.tree.map(
            lambda slope: _kept(found.valid, slope.logits), [in_dots, *in_leaves], is_leaf=_is_slope
        )
        slope = _times(slope, common.extra.power)
        return slope, (_kept(found.valid, found.logits), in_leaves[0], in_leaves[2]), in_leaves[1]

    scaling = _power(problem, shared, rows, columns)
    work = prepare(problem, terms, shared, rows, columns, ((), (), Common((), scaling)), kernels)
    value, *gradients = _gradients(problem, needs, work, scaling)
    return value.sum(), *gradients


def _pulled(problem: Problem, needs: Needs, dots, row: Given, column: Given, common: Given):
    """The cotangent of each dot, and the terms of the other leaves' gradients.

    Everything is added up in float32: the targets are subtracted before the cast to a narrow dtype.
    """
    trees = row.tree, column.tree, common.tree
    scored, in_dots, in_leaves = slopes(problem.tile, dots, trees, _besides(problem, needs))
    found = _found(problem, scored, row, column)

    def spread(name):
        of_rows = getattr(row.extra, name)[:, None]
        return of_rows + getattr(column.extra, name)[None, :] if column.extra else of_rows

    weight = _kept(found.counted, jnp.exp2(found.logits * LOG2_E - common.extra.exponent) * spread("factor"))
    second = None
    if found.targets is not None:
        weight += spread("target") * found.targets
        if is_soft(scored) and not problem.diagonal:
            logits = jnp.where(jnp.isfinite(found.logits), found.logits, 0)
            second = _kept(found.valid, spread("target") * logits + spread("mass"))

    def pulled(slope):
        in_logits = weight * slope.logits
        return in_logits if second is None else in_logits + second * slope.targets

    slope, *in_leaves = jax.tree.map(pulled, [in_dots, *in_leaves], is_leaf=_is_slope)
    return _times(slope, common.extra.power), ((), in_leaves[0], in_leaves[2]), in_leaves[1]


def _power(problem: Problem, shared, rows: Side, columns: Side, shift=None, row=None, column=None):
    """What float16 cotangents of dots are multiplied by, () for other embeddings.

    Their largest is unknown before the sweep. It is at most the largest weight of a pair, which the
    cotangents tell, times the tile's slope, taken from a few pairs: 2^6 leaves room for a thousandfold.
    """
    sides = [
        problem.tile.apart(split.together(*(jax.tree.map(lambda x: x[:SAMPLE], part) for part in side[:2])))
        for split, side in ((problem.row_split, rows), (problem.column_split, columns))
    ]
    (a, row_tree), (b, column_tree) = sides
    if not is_half(a):
        return ()
    nothing = Needs(*([False] * len(x) for x in (shared[0], rows.floating, columns.floating)))
    trees = row_tree, column_tree, problem.shared_split.together(*shared)
    scored, slope, _ = slopes(problem.tile, products(a, b), trees, _besides(problem, nothing))
    known = [side for side in (row, column) if side is not None]
    weight, second = jnp.float32(not known), jnp.float32(0)
    for side in known:
        lse = jnp.where(side.factor == 0, 0, jnp.abs(side.factor) * jnp.exp(side.lse - shift))
        weight += lse.max() + jnp.abs(side.target).max()
        second += jnp.abs(side.target).max() * _largest(scored.logits) + jnp.abs(side.mass).max()
    largest = weight * _largest(slope.logits)
    if slope.targets is not None:
        largest += second * _largest(slope.targets)
    return power(largest, 6)


def _largest(x: Float[Array, "r c"]) -> Float[Array, ""]:
    return jnp.where(jnp.isfinite(x), jnp.abs(x), 0).max()


def _times(x, factor):
    return x if isinstance(factor, tuple) else x * factor


def _unscaled(x, factor):
    return x if x is None or isinstance(factor, tuple) else x * (1 / factor)


def _gradients(problem: Problem, needs: Needs, work, scaling) -> tuple:
    """What the rows found besides gradients, and the gradients of shared, rows and columns."""
    places = [split.place(problem.tile.embedding) for split in (problem.row_split, problem.column_split)]
    swept = sweep(work, (needs.rows[places[0]], needs.columns[places[1]]))
    found, in_rows, in_shared = swept.row
    flags = _besides(problem, needs)
    of_rows, of_columns, of_shared = (
        _merged(flag, values) for flag, values in zip(flags, (in_rows, swept.column, in_shared))
    )
    of_rows.insert(places[0], _unscaled(swept.in_rows, scaling))
    of_columns.insert(places[1], _unscaled(swept.in_columns, scaling))
    return found, [None if x is None else x.sum() for x in of_shared], of_rows, of_columns


def _suited(problem: Problem, rows: Side, columns: Side, kernels: Kernels | None, matrix: bool):
    """The problem, ragged where blocks need padding, and the kernels of this device."""
    embeddings = [
        side.floating[split.place(problem.tile.embedding)]
        for split, side in ((problem.row_split, rows), (problem.column_split, columns))
    ]
    kernels = kernels or Kernels.of(embeddings[0].dtype)
    (r, d), c = embeddings[0].shape, len(columns.index)
    padded = kernels.plan(r, c, d, matrix).sizes != (r, c)
    return problem._replace(ragged=problem.ragged or padded, dtype=jnp.float32), kernels


def _found(problem: Problem, scored, row: Given, column: Given):
    return pairs(problem, scored, *(Side([], [], given.index) for given in (row, column)))


def _besides(problem: Problem, needs: Needs) -> tuple[list, list, list]:
    """What wants a gradient of rows, columns and shared, without the embeddings, which get products."""
    flags = list(needs.rows), list(needs.columns), list(needs.shared)
    for side, split in zip(flags, (problem.row_split, problem.column_split)):
        del side[split.place(problem.tile.embedding)]
    return flags


def _used(side: SideCotangents | None, factor) -> SideCotangents | tuple:
    """Without the log-sum-exps, which its factor holds already."""
    return () if side is None else side._replace(factor=side.factor * factor, lse=())


def _complete(found: ShiftedSums, factor) -> ShiftedSums:
    """Without targets their sums are 0; without masks every row met something."""
    found = found._replace(sum=found.sum * factor)
    zeros = jnp.zeros_like(found.sum)
    defaults = zeros, zeros, zeros, zeros + 1
    return ShiftedSums(*(default if x is None else x for x, default in zip(found, defaults)))


def _kept(condition, x):
    return x if condition is None else jnp.where(condition, x, 0)


def _is_slope(x) -> bool:
    return hasattr(x, "targets")


def _merged(flags, chosen: list) -> list:
    chosen = iter(chosen)
    return [next(chosen) if flag else None for flag in flags]
