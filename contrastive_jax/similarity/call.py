"""One call of a reduction: its arguments taken apart, checked and placed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from contrastive_jax.similarity.engine import KERNEL_COLUMNS, Engine, Plan, by_kernels, choose
from contrastive_jax.similarity.half import is_half
from contrastive_jax.similarity.placement import Placement, locate
from contrastive_jax.similarity.platform import platform
from contrastive_jax.similarity.scan import padded
from contrastive_jax.similarity.scores import Needs, Problem, evaluate, pairs
from contrastive_jax.similarity.sweeps import Job
from contrastive_jax.similarity.tiles import Dot, Extra, Side, Split, Weighted, check, count
from contrastive_jax.similarity.travel import Ring, varying

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


@jax.tree_util.register_static
@dataclass(frozen=True)
class Wanted:
    """Which floating leaves want a gradient: of shared, of the rows, of each group of columns."""

    flags: tuple[tuple[bool, ...], ...]

    @classmethod
    def of(cls, floating, others) -> tuple[PyTree, PyTree, Wanted]:
        """From what a rule with symbolic zeros is given: the plain values, and which are differentiated."""
        flags = tuple(tuple(x.perturbed for x in leaves) for leaves in floating)
        floating, others = jax.tree.map(lambda x: x.value, (floating, others))
        return floating, others, cls(flags)

    def by_group(self) -> list[Needs]:
        shared, rows, *groups = self.flags
        return [Needs(shared, rows, columns) for columns in groups]


class Call(NamedTuple):
    """A call as it runs; floating and others are lists of leaves: of shared, rows, each group of columns."""

    job: Job
    place: Placement
    plan: Plan
    row_count: int
    group_sizes: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        return self.row_count, self.group_sizes[0]

    @property
    def group_specs(self) -> list[PartitionSpec]:
        further = [self.place.further(travels) for travels in self.job.travels[1:]]
        return [self.place.columns, *further]

    @property
    def gradient_specs(self) -> tuple:
        return PartitionSpec(), self.place.rows, self.group_specs

    def sides(self, floating, others) -> tuple[tuple, Side, list[Side]]:
        """shared, rows and groups, filled up with repetitions to what the devices can share."""
        rows = self.place.side(floating[1], others[1], self.row_count, self.place.rows)
        groups, first = [], 0
        for leaves, rest, size, spec in zip(floating[2:], others[2:], self.group_sizes, self.group_specs):
            groups.append(self.place.side(leaves, rest, size, spec, first))
            first += size
        return (floating[0], others[0]), rows, groups

    def filled(self, state: PyTree, side: int) -> PyTree:
        """What is known of the rows (0) or columns (1), filled up like them."""
        spec = (self.place.rows, self.place.columns)[side]
        return padded(state, -self.sizes[side] % self.place.shares(spec))

    def bound(self, shared) -> Array | None:
        tile, split = self.job.problem.tile, self.job.problem.shared_split
        if getattr(tile, "bound", None) is None:
            return None
        bound = jnp.asarray(tile.bound(split.together(*shared)), self.job.problem.dtype)
        return lax.stop_gradient(bound)

    def diagonal(self, floating, others) -> dict[str, Array]:
        """The target and the mass of row i and column i, from a tile of one pair each."""
        problem, place = self.job.problem, self.place.unspread()
        sides = [place.side(floating[i], others[i], self.row_count, place.rows) for i in (1, 2)]

        def of_one(shared, row, column):
            row, column = jax.tree.map(lambda x: x[None], (row, column))
            found = pairs(problem, evaluate(problem, shared, row, column)[0], row, column)
            mass = found.targets[0, 0]
            return jnp.where(mass > 0, found.logits[0, 0], 0), mass

        def body(shared, rows, columns):
            return jax.vmap(of_one, in_axes=(None, 0, 0))(shared, rows, columns)

        shared = floating[0], others[0]
        specs = PartitionSpec(), place.rows, place.rows
        target, mass = place.run(body, (shared, *sides), specs, place.rows)
        return {"target": place.trim(target, self.row_count), "mass": place.trim(mass, self.row_count)}

    @staticmethod
    def cotangents(tree: PyTree) -> PyTree:
        """Zeros for those that are known to be zero."""
        is_zero = lambda x: isinstance(x, jax.custom_derivatives.SymbolicZero)  # noqa: E731
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) if is_zero(x) else x, tree, is_leaf=is_zero)

    def gradients(self, gradients: tuple, floating: list, before_cotangent: bool = False) -> list:
        """Each as its leaf is; None where none is wanted.

        before_cotangent: whether a cotangent is still to come. What adds up over the batch may be too large
        for float16 until then.
        """
        of_shared, of_rows, of_groups = gradients
        return [
            [self.place.gradient(g, x, before_cotangent and is_half(x)) for g, x in zip(of_side, leaves)]
            for of_side, leaves in zip((of_shared, of_rows, *of_groups), floating)
        ]


def prepare(
    reduction: str, tile, rows, columns, shared, extra, engine: dict, diagonal: bool = False
) -> tuple[Call, tuple]:
    """The call, and its trees as (floating, others): lists of leaves of shared, rows, columns, extras."""
    engine = Engine.of(engine)
    if reduction == "expectation":
        tile = _valued(tile)
    extras = _extras(extra, columns)
    trees = jax.tree.map(_array, (shared, rows, columns, *(e.columns for e in extras)))
    sizes = [count(trees[1], "rows"), count(trees[2], "columns")]
    sizes += [count(tree, "extra") for tree in trees[3:]]
    if diagonal and sizes[0] != sizes[1]:
        raise ValueError(f"diagonal targets need as many rows as columns, not {sizes[0]} and {sizes[1]}")
    place = locate(trees, engine.axes, engine.spread, engine.mesh)
    trees = varying(trees, Ring(outer=place.ring.outer))  # here, where its derivative adds up
    scores = check(tile, trees[1], trees[2], trees[0])
    travels = (True, *(e.sharded for e in extras))
    specs = [place.columns, *(place.further(sharded) for sharded in travels[1:])]
    shares = [place.shares(spec) for spec in (place.rows, *specs)]
    local = [-(-size // share) for size, share in zip(sizes, shares)]
    chosen = choose(engine, tile, trees[1], trees[2:], trees[0], place.ring, (local[0], local[1:]))
    place = place._replace(ring=place.ring._replace(gathers=chosen.communication == "gather"))
    splits = [Split.of(tree) for tree in trees]
    dtype = jnp.promote_types(jnp.float32, scores.logits.dtype)
    problem = Problem(tile, *splits[:3], chosen.block, dtype, diagonal)
    apart = [split.apart(tree) for split, tree in zip(splits, trees)]
    gathered = place.ring.size if place.ring.gathers else 1
    met = [n * (gathered if moves else 1) for n, moves in zip(local[1:], travels)]
    kernel_block = None
    if by_kernels(engine, problem, apart, reduction):
        kernel_block = engine.block or (local[0], min(max(met), KERNEL_COLUMNS))
        chosen = chosen._replace(backend="pallas", keeps=False, block=kernel_block)
        place = place._replace(checks=platform() != "cpu")
    ragged = any(n % k for n, k in zip(sizes, shares)) or any(
        n % min(n, block[side])
        for block in (problem.block, kernel_block or problem.block)
        for side, lengths in enumerate((local[:1], met))
        for n in lengths
    )
    job = Job(problem._replace(ragged=ragged), place.ring, travels, kernel_block)
    call = Call(job, place, chosen, sizes[0], tuple(sizes[1:]))
    return call, ([a[0] for a in apart], [a[1] for a in apart])


def _extras(extra, columns) -> list[Extra]:
    if extra is None:
        return []
    given = extra if isinstance(extra, list) and not isinstance(columns, list) else [extra]
    extras = [e if isinstance(e, Extra) else Extra(e) for e in given]
    structure = jax.tree.structure(columns)
    for e in extras:
        if jax.tree.structure(e.columns) != structure:
            raise ValueError(
                f"extra has the tree {jax.tree.structure(e.columns)}, the columns have {structure}: "
                "give the same records for both"
            )
        for a, b in zip(jax.tree.leaves(e.columns), jax.tree.leaves(columns)):
            if jnp.shape(a)[1:] != jnp.shape(b)[1:]:
                raise ValueError(
                    f"extra has records of shape {jnp.shape(a)[1:]}, the columns {jnp.shape(b)[1:]}"
                )
    return extras


def _array(x):
    """As a JAX array; ValueError for integers that would lose digits, as ids that become others."""
    if isinstance(x, (jax.Array, jax.ShapeDtypeStruct)):
        return x
    whole, held = np.asarray(x), jnp.asarray(x)
    if whole.dtype.kind in "iu" and not np.array_equal(whole, whole.astype(held.dtype)):
        raise ValueError(
            f"rows or columns hold {whole.dtype} that {held.dtype} does not: number them anew, "
            "np.unique(ids, return_inverse=True)[1], all that are compared together"
        )
    return held


def _valued(tile):
    """A tile of `expectation`, which may return a pair for short."""

    def with_values(*arguments):
        scores = tile.scores(*arguments) if isinstance(tile, Dot) else tile(*arguments)
        if type(scores) is tuple and len(scores) == 2:
            scores = Weighted(*scores)
        if not isinstance(scores, Weighted):
            raise ValueError(
                "a tile of `expectation` returns (logits, values) or Weighted(logits, values, mask)"
            )
        return scores

    return replace(tile, scores=with_values) if isinstance(tile, Dot) else with_values
