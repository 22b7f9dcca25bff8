"""The scores of one tile, and what pulls their cotangents back to the leaves that want a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from contrastive_jax.similarity import half
from contrastive_jax.similarity.tiles import Dot, Scores, Side, Split, Tile, Weighted, normalise, products

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, PyTree

    Flags = tuple[bool, ...]


class Needs(NamedTuple):
    """Which floating leaves of shared, rows and columns want a gradient."""

    shared: Flags
    rows: Flags
    columns: Flags


class Problem(NamedTuple):
    """What is fixed while a program is traced.

    ragged: padding may stand among the rows or columns; diagonal: column i is wanted for row i;
    dtype: of the accumulators.
    """

    tile: Tile
    shared_split: Split
    row_split: Split
    column_split: Split
    block: tuple[int, int]
    dtype: Any
    diagonal: bool = False
    ragged: bool = True


class Pairs(NamedTuple):
    """The scores of a tile as reductions read them: what takes no part is masked.

    logits: -inf where a pair takes no part; valid: which pairs do, None for all; targets: 0 where none;
    counted: which stand in the log-sum-exps, None for all; values: of `Weighted`.
    """

    logits: Float[Array, "r c"]
    valid: Bool[Array, "r c"] | None
    targets: Float[Array, "r c"] | None
    counted: Bool[Array, "r c"] | None
    values: Float[Array, "r c"] | None


def evaluate(problem: Problem, shared, rows: Side, columns: Side, dots=None) -> tuple[Scores | Weighted, Any]:
    """The tile's scores, logits in the problem's dtype, and of a Dot tile the dots, which may be given."""
    rows_tree = problem.row_split.together(rows.floating, rows.others)
    columns_tree = problem.column_split.together(columns.floating, columns.others)
    shared_tree = problem.shared_split.together(*shared)
    tile = problem.tile
    if isinstance(tile, Dot):
        (a, rows_tree), (b, columns_tree) = tile.apart(rows_tree), tile.apart(columns_tree)
        dots = products(a, b) if dots is None else dots
        scores = normalise(tile.scores(dots, rows_tree, columns_tree, shared_tree))
    else:
        scores = normalise(tile(rows_tree, columns_tree, shared_tree))
    return scores._replace(logits=scores.logits.astype(problem.dtype)), dots


def evaluate_vjp(
    problem: Problem, needs: Needs, shared, rows: Side, columns: Side, dots=None
) -> tuple[Scores | Weighted, Callable]:
    """The scores, and pull(cotangent of logits, of targets or values) -> gradients (shared, rows, columns).

    Gradients are lists as long as the floating leaves, with None where none is wanted. Those of a Dot
    tile's embeddings are products in the embeddings' dtype, added up in float32. For float16 leaves all
    goes through powers of two: cotangents are as small as one over the batch.
    """
    is_dot = isinstance(problem.tile, Dot)
    if is_dot and dots is None:
        dots = evaluate(problem, shared, rows, columns)[1]
    leaves = shared[0], rows.floating, columns.floating
    by_rule = [list(flags) for flags in needs]
    if is_dot:
        places = [split.place(problem.tile.embedding) for split in (problem.row_split, problem.column_split)]
        for flags, place in zip(by_rule[1:], places):
            flags[place] = False

    def scores_of(dots, *chosen):
        s, r, c = (_merged(*x) for x in zip(leaves, by_rule, chosen))
        sides = rows._replace(floating=r), columns._replace(floating=c)
        scores, _ = evaluate(problem, (s, shared[1]), *sides, dots)
        second = scores.values if isinstance(scores, Weighted) else scores.targets
        soft = second is not None and jnp.issubdtype(second.dtype, jnp.floating)
        return (scores.logits, second.astype(problem.dtype) if soft else None), scores

    chosen = [[x for x, f in zip(*pair) if f] for pair in zip(leaves, by_rule)]
    through_half = any(half.is_half(x) for side in chosen for x in side)
    (_, soft), vjp, scores = jax.vjp(scores_of, dots, *chosen, has_aux=True)

    def pull(logits, second):
        if soft is not None:
            second = varying_as(jnp.zeros_like(soft) if second is None else second, soft)
        pair = varying_as(logits, scores.logits), None if soft is None else second
        factor = half.power_of_sums(*pair) if through_half else None
        d_dots, *chosen = _divided(vjp(_multiplied(pair, factor)), factor)
        gradients = [_merged([None] * len(flags), flags, got) for flags, got in zip(by_rule, chosen)]
        if is_dot:
            a, b = rows.floating[places[0]], columns.floating[places[1]]
            factor = half.power_of_matrix(d_dots, 15) if half.is_half(a) else None
            d_dots = _multiplied(d_dots, factor).astype(a.dtype)
            if needs.rows[places[0]]:
                gradients[1][places[0]] = _divided(_product(d_dots, b, 1), factor)
            if needs.columns[places[1]]:
                gradients[2][places[1]] = _divided(_product(d_dots, a, 0), factor)
        return gradients

    return scores, pull


def pairs(problem: Problem, scores: Scores | Weighted, rows: Side, columns: Side) -> Pairs:
    """The scores with padding and masked pairs taken out."""
    valid = scores.mask
    if problem.ragged:
        inside = (rows.index >= 0)[:, None] & (columns.index >= 0)[None, :]
        valid = inside if valid is None else valid & inside
    logits = _where(valid, scores.logits, -jnp.inf)
    if isinstance(scores, Weighted):
        return Pairs(logits, valid, None, valid, _where(valid, scores.values, 0).astype(problem.dtype))
    counted = scores.denominator
    if valid is not None:
        counted = valid if counted is None else counted & valid
    targets = rows.index[:, None] == columns.index[None, :] if problem.diagonal else scores.targets
    if targets is not None:
        targets = _where(valid, targets, 0).astype(problem.dtype)
    return Pairs(logits, valid, targets, counted, None)


def wanted(tree: PyTree, flags: Flags, dtype) -> list:
    """Zeros for the gradients of the leaves that want one, no narrower than `dtype`; None for others."""
    return [jnp.zeros(x.shape, jnp.promote_types(dtype, x.dtype)) if f else None for x, f in zip(tree, flags)]


def add(sums: PyTree, terms: PyTree) -> PyTree:
    """Each sum with its term, in the sum's dtype."""
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), sums, terms)


def varying_as(x: Array, like: Array) -> Array:
    """A constant, marked as one that differs between devices, as a cotangent must be if its primal does."""
    axes = jax.typeof(like).manual_axis_type.varying - jax.typeof(x).manual_axis_type.varying
    return lax.pcast(x, tuple(axes), to="varying") if axes else x


def _multiplied(tree: PyTree, factor: Float[Array, ""] | None) -> PyTree:
    return tree if factor is None else jax.tree.map(lambda x: x * factor, tree)


def _divided(tree: PyTree, factor: Float[Array, ""] | None) -> PyTree:
    """Divided by a power of two, in float32 or wider."""
    return tree if factor is None else jax.tree.map(lambda x: x * (1 / factor), tree)


def _where(condition, x, otherwise):
    return x if condition is None else jnp.where(condition, x, otherwise)


def _product(d_dots: Float[Array, "r c"], embedding: Float[Array, "n d"], contracted: int):
    precision = lax.Precision.HIGHEST if jnp.finfo(d_dots.dtype).bits >= 32 else None
    dtype = jnp.promote_types(jnp.float32, d_dots.dtype)
    dimensions = (((contracted,), (0,)), ((), ()))
    return lax.dot_general(d_dots, embedding, dimensions, precision=precision, preferred_element_type=dtype)


def _merged(leaves: list, flags: Flags, chosen: list) -> list:
    chosen = iter(chosen)
    return [next(chosen) if flag else leaf for leaf, flag in zip(leaves, flags)]
