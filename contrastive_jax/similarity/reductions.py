"""Reductions over the similarity matrix that never build it.

Each takes a *tile*: `tile(rows, columns, shared) -> Scores` of some rows and some columns, pytrees
whose leaves have the example axis first. The functions here are global-view: call them inside `jit`
on sharded arrays, differentiate them from outside (reverse mode, first order). Keywords of all:

axes: the mesh axes that examples are sharded over; those the mesh lacks are passed over.
block: rows and columns a tile, an int or a pair; None chooses from the tile's largest intermediate.
mesh: None takes the ambient mesh (`jax.set_mesh`), else the one that the arrays lie on.

The numbers of rows and columns need divide neither blocks nor mesh.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from contrastive_jax.similarity import ring
from contrastive_jax.similarity.placement import Placement, locate
from contrastive_jax.similarity.scan import Problem, Statistics
from contrastive_jax.similarity.tiles import Split, Tile, block_size, check, count

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree


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
    tile: Tile, rows: PyTree, columns: PyTree, shared: PyTree = None, **keywords
) -> tuple[Float[Array, " R"], Float[Array, " C"]]:
    """Log-sum-exps of every row and every column of the tile's logits, from one sweep.

    Masked entries are -inf; so is the result where all are. Keywords and errors as in the module's
    docstring and in `cross_entropy`.
    """
    sums = cross_entropy(tile, rows, columns, shared, **keywords)
    return sums.row_lse, sums.column_lse


def cross_entropy(
    tile: Tile,
    rows: PyTree,
    columns: PyTree,
    shared: PyTree = None,
    *,
    targets: str | None = None,
    axes: tuple[str, ...] = ("data", "fsdp"),
    block: int | tuple[int, int] | None = None,
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh | None = None,
) -> Sums:
    """Log-sum-exps, targets and masses of rows and columns, from one sweep.

    targets: None takes the tile's own; "diagonal" wants column i for row i (as many rows as columns).
    Raises ValueError for trees whose leaves disagree, a tile of the wrong shape or one that closes
    over a traced value, and a mesh that has none of `axes` or is not the one that the arrays lie on.
    The cross-entropy of row i against its normalised targets is row_lse_i - row_target_i / row_mass_i.
    """
    if targets not in (None, "diagonal"):
        raise ValueError(f'targets={targets!r}: give None (the tile\'s own) or "diagonal"')
    problem, place, trees = _prepare(tile, rows, columns, shared, axes, block, mesh, targets == "diagonal")
    R, C = count(rows, "rows"), count(columns, "columns")
    if problem.diagonal and R != C:
        raise ValueError(f"diagonal targets need as many rows as columns, not {R} and {C}")

    @jax.custom_vjp
    def reduce(floating, others):
        sweep = partial(ring.statistics, problem, place.ring)
        return place.run(sweep, *_sides(floating, others, place, (R, C)))

    def reduce_forward(floating, others):
        states = reduce(floating, others)
        return states, (floating, others, tuple(s.lse for s in states))

    def reduce_backward(residuals, cotangents: tuple[Statistics, Statistics]):
        floating, others, lse = residuals
        shared, rows, columns = _sides(floating, others, place, (R, C))
        sweep = partial(ring.statistics_gradient, problem, place.ring)
        row_state, column_state = zip(lse, cotangents)
        gradient = place.run(sweep, shared, rows, row_state, columns, column_state, summed=True)
        return _as_leaves(gradient, floating, place), None

    reduce.defvjp(reduce_forward, reduce_backward)
    row, column = reduce(*trees)
    return Sums(*(place.trim(sums, n) for pair in zip(row, column) for sums, n in zip(pair, (R, C))))


def total(
    tile: Tile,
    rows: PyTree,
    columns: PyTree,
    shared: PyTree = None,
    *,
    axes: tuple[str, ...] = ("data", "fsdp"),
    block: int | tuple[int, int] | None = None,
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh | None = None,
) -> Float[Array, ""]:
    """The sum of the tile's values (its `logits`) over all pairs that its mask leaves in.

    Under differentiation the value and all gradients come from one sweep. Errors as in `cross_entropy`.
    """
    problem, place, trees = _prepare(tile, rows, columns, shared, axes, block, mesh)
    R, C = count(rows, "rows"), count(columns, "columns")

    @jax.custom_vjp
    def reduce(floating, others):
        sweep = partial(ring.total, problem, place.ring)
        return place.run(sweep, *_sides(floating, others, place, (R, C)), summed="only")

    def reduce_forward(floating, others):
        sweep = partial(ring.total_with_gradient, problem, place.ring)
        sides = _sides(floating, others, place, (R, C))
        (value, gradient), rows, columns = place.run(sweep, *sides, summed=True)
        return value, (_as_leaves((gradient, rows, columns), floating, place),)

    def reduce_backward(residuals, cotangent):
        return jax.tree.map(lambda x: (cotangent * x).astype(x.dtype), residuals[0]), None

    reduce.defvjp(reduce_forward, reduce_backward)
    return reduce(*trees)


def top_k(
    tile: Tile,
    rows: PyTree,
    columns: PyTree,
    shared: PyTree = None,
    k: int = 1,
    *,
    axes: tuple[str, ...] = ("data", "fsdp"),
    block: int | tuple[int, int] | None = None,
    mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh | None = None,
) -> tuple[Float[Array, "R k"], Int[Array, "R k"]]:
    """The k largest logits of each row and the columns they stand in, best first.

    Of equal values the lower index comes first, on every mesh. Where fewer than k pairs are unmasked,
    the value is -inf and the index -1. No gradient flows. Errors as in `cross_entropy`, and for k
    outside 1..C.
    """
    problem, place, trees = _prepare(tile, rows, columns, shared, axes, block, mesh)
    R, C = count(rows, "rows"), count(columns, "columns")
    if not 1 <= k <= C:
        raise ValueError(f"k={k}: give 1 to {C}, the number of columns")

    search = partial(ring.top_k, problem, place.ring, k)
    best = place.run(search, *_sides(*lax.stop_gradient(trees), place, (R, C)))
    values, indices = (place.trim(x, R) for x in best)
    return values, jnp.where(values == -jnp.inf, -1, indices)


def _prepare(tile, rows, columns, shared, axes, block, mesh, diagonal=False):
    """What is static, where it runs, and the trees as ((shared, rows, columns) floating, others)."""
    shared, rows, columns = (jax.tree.map(jnp.asarray, tree) for tree in (shared, rows, columns))
    sizes = count(rows, "rows"), count(columns, "columns")
    place = locate((shared, rows, columns), axes, mesh)
    scores = check(tile, rows, columns, shared)
    if block is None:
        longest = -(-max(sizes) // place.ring.size)
        block = block_size(tile, rows, columns, shared, longest)
    block = (block, block) if isinstance(block, int) else tuple(block)
    if len(block) != 2 or min(block) < 1:
        raise ValueError(f"block={block}: give a positive int or a pair of them (rows, columns)")
    splits = [Split.of(tree) for tree in (shared, rows, columns)]
    dtype = jnp.promote_types(jnp.float32, scores.logits.dtype)
    problem = Problem(tile, splits[1], splits[2], splits[0], diagonal, block, dtype)
    apart = [split.apart(tree) for split, tree in zip(splits, (shared, rows, columns))]
    return problem, place, ([a[0] for a in apart], [a[1] for a in apart])


def _sides(floating, others, place: Placement, sizes: tuple[int, int]):
    """(floating, others) of shared, and the padded rows and columns."""
    rows, columns = (place.side(floating[i], others[i], size) for i, size in ((1, sizes[0]), (2, sizes[1])))
    return (floating[0], others[0]), rows, columns


def _as_leaves(gradients: tuple, floating: list, place: Placement) -> list:
    return [
        [place.gradient(g, x) for g, x in zip(gradient, leaves)]
        for gradient, leaves in zip(gradients, floating)
    ]
