"""Reductions over the similarity matrix that never build it.

Each takes a *tile*: `tile(rows, columns, shared) -> Scores` of some rows and some columns, pytrees
whose leaves have the example axis first. The functions here are global-view: call them inside `jit`
on sharded arrays, differentiate them from outside (reverse mode, first order).

extra: further columns for the rows to meet, of the same tree as `columns`: a tree, an `Extra`, or a list
of these. Replicated ones (the default) are tiled where they are, `Extra(tree, sharded=True)` travel like
the columns; a gradient is worked out, and travels, only for leaves that want one. They enter what is
reduced over columns: row results, totals, and `top_k`, where they are counted on from C.

Other keywords (`engine.Engine`) say how: axes, spread, block, communication, backend, keep, mesh. The
numbers of rows and columns need divide neither blocks nor mesh.

Errors of all: ValueError for trees whose leaves disagree, a tile of the wrong shape or one that closes
over a traced value, keywords that do not exist, and a mesh that has none of `axes` or is not the one
that the arrays lie on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from contrastive_jax.similarity import ring
from contrastive_jax.similarity.call import Wanted, prepare

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

    from contrastive_jax.similarity.engine import Plan
    from contrastive_jax.similarity.tiles import Extra, Tile

    More = PyTree | Extra | list[PyTree | Extra] | None

ALIKE = PartitionSpec()


class Sums(NamedTuple):
    """What `cross_entropy` returns of R rows and C columns; a masked pair counts nowhere.

    row_lse_i = log sum_j exp(l_ij), -inf for a row whose pairs are all masked;
    row_target_i = sum_j T_ij l_ij, with 0 x -inf = 0; row_mass_i = sum_j T_ij; columns likewise.
    """

    row_lse: Float[Array, " R"]
    column_lse: Float[Array, " C"]
    row_target: Float[Array, " R"]
    column_target: Float[Array, " C"]
    row_mass: Float[Array, " R"]
    column_mass: Float[Array, " C"]


def logsumexp(
    tile: Tile, rows: PyTree, columns: PyTree, shared: PyTree = None, *, extra: More = None, **engine
) -> tuple[Float[Array, " R"], Float[Array, " C"]]:
    """Log-sum-exps of every row and every column of the tile's logits, from one sweep.

    Masked entries are -inf; so is the result where all are. A logit that is not a number makes the
    result of its row and of its column inf.
    """
    sums = cross_entropy(tile, rows, columns, shared, extra=extra, **engine)
    return sums.row_lse, sums.column_lse


def cross_entropy(
    tile: Tile,
    rows: PyTree,
    columns: PyTree,
    shared: PyTree = None,
    *,
    targets: str | None = None,
    extra: More = None,
    **engine,
) -> Sums:
    """Log-sum-exps, targets and masses of rows and columns, from one sweep.

    targets: None takes the tile's own; "diagonal" wants column i for row i (as many rows as columns).
    The cross-entropy of row i against its normalised targets is row_lse_i - row_target_i / row_mass_i.
    """
    if targets not in (None, "diagonal"):
        raise ValueError(f'targets={targets!r}: give None (the tile\'s own) or "diagonal"')
    call, trees = prepare("cross_entropy", tile, rows, columns, shared, extra, engine, targets == "diagonal")
    place = call.place

    @jax.custom_vjp
    def reduce(floating, others):
        return forward(floating, others, False)[0]

    def forward(floating, others, keeps: bool):
        shared, rows, groups = call.sides(floating, others)
        arguments = shared, call.bound(shared), rows, groups
        specs = ALIKE, ALIKE, place.rows, call.group_specs
        results = place.rows, place.columns, ALIKE, place.columns
        row, column, *rest = place.run(partial(ring.statistics, call.job, keeps), arguments, specs, results)
        settled = (jax.tree.map(partial(place.settle, size=n), s) for s, n in zip((row, column), call.sizes))
        states, sums = zip(*settled)
        if targets == "diagonal":
            states = tuple(s._replace(**call.diagonal(floating, others)) for s in states)
        return states, (sums, rest)

    def reduce_forward(floating, others):
        floating, others, wanted = Wanted.of(floating, others)
        states, (sums, rest) = forward(floating, others, call.plan.keeps)
        return states, (floating, others, list(zip((s.lse for s in states), sums)), rest, wanted)

    def reduce_backward(residuals, cotangents):
        floating, others, known, (served, kept), wanted = residuals
        shared, rows, groups = call.sides(floating, others)
        states = [call.filled(state, i) for i, state in enumerate(zip(known, call.cotangents(cotangents)))]
        arguments = shared, call.bound(shared), served, rows, *states, groups, kept
        specs = ALIKE, ALIKE, ALIKE, place.rows, place.rows, place.columns, call.group_specs, place.columns
        body = partial(ring.statistics_gradient, call.job, wanted.by_group())
        return call.gradients(place.run(body, arguments, specs, call.gradient_specs), floating), None

    reduce.defvjp(reduce_forward, reduce_backward, symbolic_zeros=True)
    row, column = reduce(*trees)
    return Sums(*(sums for pair in zip(row, column) for sums in pair))


def total(
    tile: Tile, rows: PyTree, columns: PyTree, shared: PyTree = None, *, extra: More = None, **engine
) -> Float[Array, ""]:
    """The sum of the tile's values (its `logits`) over all pairs that its mask leaves in.

    Under differentiation the value and all gradients come from one sweep. A value that is not a number
    makes the total inf.
    """
    call, trees = prepare("total", tile, rows, columns, shared, extra, engine)
    place = call.place
    specs = ALIKE, place.rows, call.group_specs

    @jax.custom_vjp
    def reduce(floating, others):
        return place.run(partial(ring.total, call.job), call.sides(floating, others), specs, ALIKE)

    def reduce_forward(floating, others):
        floating, others, wanted = Wanted.of(floating, others)
        body = partial(ring.total_with_gradient, call.job, wanted.by_group())
        arguments = call.sides(floating, others)
        (value, of_shared), *of_examples = place.run(body, arguments, specs, call.gradient_specs)
        return value, call.gradients((of_shared, *of_examples), floating, before_cotangent=True)

    def reduce_backward(gradients, cotangent):
        (cotangent,) = call.cotangents((cotangent,))
        return [
            [None if g is None else (cotangent * g).astype(x.dtype) for g, x in zip(*side)]
            for side in zip(gradients, trees[0])
        ], None

    reduce.defvjp(reduce_forward, reduce_backward, symbolic_zeros=True)
    value = reduce(*trees)
    return jnp.where(jnp.isnan(value), jnp.inf, value)


def expectation(
    tile: Tile,
    rows: PyTree,
    columns: PyTree,
    shared: PyTree = None,
    *,
    weights_gradient: bool = True,
    extra: More = None,
    **engine,
) -> Float[Array, " R"]:
    """The mean of a row's values under the softmax of its logits: sum_j p_ij v_ij, 0 without any pair.

    The tile returns (logits, values) or `Weighted`. weights_gradient: whether the logits are
    differentiated; without, the weights p are constants.
    """
    call, trees = prepare("expectation", tile, rows, columns, shared, extra, engine)
    place, (R, _) = call.place, call.sizes

    @jax.custom_vjp
    def reduce(floating, others):
        return forward(floating, others).mean

    def forward(floating, others):
        specs = ALIKE, place.rows, call.group_specs
        mean = place.run(partial(ring.expectation, call.job), call.sides(floating, others), specs, place.rows)
        return jax.tree.map(lambda x: place.trim(x, R), mean)

    def reduce_forward(floating, others):
        floating, others, wanted = Wanted.of(floating, others)
        mean = forward(floating, others)
        return mean.mean, (floating, others, mean, wanted)

    def reduce_backward(residuals, cotangent):
        floating, others, mean, wanted = residuals
        shared, rows, groups = call.sides(floating, others)
        state = call.filled((mean, *call.cotangents((cotangent,))), 0)
        body = partial(ring.expectation_gradient, call.job, wanted.by_group(), weights_gradient)
        specs = ALIKE, place.rows, place.rows, call.group_specs
        gradients = place.run(body, (shared, rows, state, groups), specs, call.gradient_specs)
        return call.gradients(gradients, floating), None

    reduce.defvjp(reduce_forward, reduce_backward, symbolic_zeros=True)
    return reduce(*trees)


def top_k(
    tile: Tile,
    rows: PyTree,
    columns: PyTree,
    shared: PyTree = None,
    k: int = 1,
    *,
    extra: More = None,
    **engine,
) -> tuple[Float[Array, "R k"], Int[Array, "R k"]]:
    """The k largest logits of each row and the columns they stand in, best first.

    Of equal values the lower index comes first, on every mesh. Where fewer than k pairs are unmasked,
    the value is -inf and the index -1. No gradient flows. ValueError for k outside 1..C.
    """
    call, trees = prepare("top_k", tile, rows, columns, shared, extra, engine)
    R, C = call.sizes[0], sum(call.group_sizes)
    if not 1 <= k <= C:
        raise ValueError(f"k={k}: give 1 to {C}, the number of columns")
    place = call.place
    specs = ALIKE, place.rows, call.group_specs
    arguments = call.sides(*jax.lax.stop_gradient(trees))
    best = place.run(partial(ring.top_k, call.job, k), arguments, specs, place.rows)
    values, indices = (place.trim(x, R) for x in best)
    return values, jnp.where(values == -jnp.inf, -1, indices)


def plan(
    tile: Tile,
    rows: PyTree,
    columns: PyTree,
    shared: PyTree = None,
    *,
    reduction: str = "cross_entropy",
    extra: More = None,
    **engine,
) -> Plan:
    """What a reduction with these arguments (arrays or their shapes) would choose."""
    return prepare(reduction, tile, rows, columns, shared, extra, engine)[0].plan
