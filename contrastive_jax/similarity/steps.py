"""What each reduction does on one tile: how it adds to the states of the rows and the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from contrastive_jax.similarity.scores import Needs, Pairs, Problem, add, evaluate, evaluate_vjp, pairs

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

    from contrastive_jax.similarity.tiles import Side

    Known = tuple[Side, PyTree]  # examples, and what is known of them besides


class Statistics(NamedTuple):
    """What one side of `cross_entropy` knows of each of its n examples."""

    lse: Float[Array, " n"]
    target: Float[Array, " n"]
    mass: Float[Array, " n"]


class ShiftedSums(NamedTuple):
    """The same with a sum of exp(logit - shift), and the number of tiles where anything was summed.

    Every field adds up, over tiles and over devices.
    """

    sum: Float[Array, " n"]
    target: Float[Array, " n"]
    mass: Float[Array, " n"]
    tiles: Float[Array, " n"]


class SideCotangents(NamedTuple):
    """What the backward sweep knows of one side; factor: g_lse over the shifted sum, or g_lse itself."""

    factor: Float[Array, " n"]
    lse: Float[Array, " n"]
    target: Float[Array, " n"]
    mass: Float[Array, " n"]


class Mean(NamedTuple):
    """A softmax-weighted mean of each of n rows, and the log-sum-exp of the weights so far."""

    lse: Float[Array, " n"]
    mean: Float[Array, " n"]


class Best(NamedTuple):
    """The best columns of each row so far; an empty place has value -inf and the largest index."""

    values: Float[Array, "n k"]
    indices: Int[Array, "n k"]


def no_statistics(n: int, dtype) -> Statistics:
    return Statistics(jnp.full(n, -jnp.inf, dtype), jnp.zeros(n, dtype), jnp.zeros(n, dtype))


def no_sums(n: int, dtype) -> ShiftedSums:
    return ShiftedSums(*(jnp.zeros(n, dtype) for _ in ShiftedSums._fields))


def no_mean(n: int, dtype) -> Mean:
    return Mean(jnp.full(n, -jnp.inf, dtype), jnp.zeros(n, dtype))


def no_best(n: int, k: int, dtype) -> Best:
    return Best(jnp.full((n, k), -jnp.inf, dtype), jnp.full((n, k), jnp.iinfo(jnp.int32).max, jnp.int32))


def shifted_sums(problem: Problem, shared, shift, keeps: bool):
    """A step to `ShiftedSums`, with one exponential a pair; keeps the dots if it is told to."""

    def step(carry, rows: Known, row_found, columns: Known, column_found, _):
        scores, dots = evaluate(problem, shared, rows[0], columns[0])
        found = pairs(problem, scores, rows[0], columns[0])
        exponentials = jnp.exp(found.logits - shift)
        if found.counted is not None:
            exponentials = jnp.where(found.counted, exponentials, 0)

        def added(state: ShiftedSums | None, axis: int):
            if state is None:
                return None
            anything = 1 if found.counted is None else found.counted.any(axis)
            target, mass = _targets(found, axis, not problem.diagonal)
            terms = exponentials.sum(axis), target, mass, anything
            return ShiftedSums(*(a + b for a, b in zip(state, terms)))

        return carry, added(row_found, 1), added(column_found, 0), dots if keeps else None

    return step


def statistics(problem: Problem, shared):
    """A step to `Statistics` with running maxima: right for logits of any size.

    A logit that is not a number makes the log-sum-exps of its row and its column inf.
    """

    def step(carry, rows: Known, row_found, columns: Known, column_found, _):
        found = _pairs(problem, shared, rows, columns)
        unknown = jnp.isnan(found.logits)
        summands = jnp.where(unknown, jnp.inf, _summands(found))
        found = found._replace(logits=jnp.where(unknown, 0, found.logits))

        def added(state: Statistics | None, axis: int):
            if state is None:
                return None
            lse = jnp.logaddexp(state.lse, jax.nn.logsumexp(summands, axis))
            target, mass = _targets(found, axis, not problem.diagonal)
            return Statistics(lse, state.target + target, state.mass + mass)

        return carry, added(row_found, 1), added(column_found, 0), None

    return step


def statistics_gradient(problem: Problem, needs: Needs, shared, shift):
    """The derivative of `statistics`, pulled back tile by tile.

    Known of a side: SideCotangents; of further columns nothing (None). The weight of a pair,
    g_lse exp(l - lse) + g_target T, is summed in the accumulators' dtype before anything is cast. With a
    shift, exp(l - lse) is a factor of the row (or column) times exp(l - shift): one exponential a pair.
    shift None: any logits.
    """

    def step(gradient, rows: Known, row_gradient, columns: Known, column_gradient, dots):
        (rows, row), (columns, column) = rows, columns
        scores, pull = evaluate_vjp(problem, needs, shared, rows, columns, dots)
        found = pairs(problem, scores, rows, columns)
        sides = [(row, 1)] if column is None else [(row, 1), (column, 0)]

        def spread(name):
            return sum(jnp.expand_dims(getattr(side, name), axis) for side, axis in sides)

        if shift is None:
            summands = _summands(found)
            weight = sum(
                jnp.expand_dims(side.factor, axis)
                * jnp.exp(summands - jnp.expand_dims(_finite(side.lse), axis))
                for side, axis in sides
            )
        else:
            weight = jnp.exp(found.logits - shift) * spread("factor")
            if found.counted is not None:
                weight = jnp.where(found.counted, weight, 0)
        second = None
        if found.targets is not None:
            g_target = spread("target")
            weight += g_target * found.targets
            if not problem.diagonal:
                logits = jnp.where(jnp.isfinite(found.logits), found.logits, 0)
                second = g_target * logits + spread("mass")
                second = second if found.valid is None else jnp.where(found.valid, second, 0)
        if shift is None:
            weight = jnp.where(jnp.isfinite(found.logits), weight, 0)
        return *add((gradient, row_gradient, column_gradient), tuple(pull(weight, second))), None

    return step


def total(problem: Problem, shared):
    """A step that adds the tile's values over the pairs that take part to the carry."""

    def step(carry, rows: Known, row_found, columns: Known, column_found, _):
        found = _pairs(problem, shared, rows, columns)
        return carry + _values(found).sum(dtype=problem.dtype), row_found, column_found, None

    return step


def total_with_gradient(problem: Problem, needs: Needs, shared):
    """`total` and all its gradients; carry is (value, gradient of `shared`)."""

    def step(carry, rows: Known, row_gradient, columns: Known, column_gradient, _):
        value, gradient = carry
        scores, pull = evaluate_vjp(problem, needs, shared, rows[0], columns[0])
        found = pairs(problem, scores, rows[0], columns[0])
        value += _values(found).sum(dtype=problem.dtype)
        ones = jnp.ones(scores.logits.shape, problem.dtype)
        ones = ones if found.valid is None else jnp.where(found.valid, ones, 0)
        sums = add((gradient, row_gradient, column_gradient), tuple(pull(ones, None)))
        return (value, sums[0]), *sums[1:], None

    return step


def expectation(problem: Problem, shared):
    """A step to `Mean`."""

    def step(carry, rows: Known, so_far: Mean, columns: Known, column_found, _):
        found = _pairs(problem, shared, rows, columns)
        lse = jnp.logaddexp(so_far.lse, jax.nn.logsumexp(found.logits, 1))
        weights = jnp.exp(found.logits - _finite(lse)[:, None])
        mean = so_far.mean * jnp.exp(so_far.lse - _finite(lse)) + (weights * found.values).sum(1)
        return carry, Mean(lse, mean), column_found, None

    return step


def expectation_gradient(problem: Problem, needs: Needs, shared, weights_gradient: bool):
    """The derivative of `expectation`; known of a row: (its Mean, its cotangent)."""

    def step(gradient, rows: Known, row_gradient, columns: Known, column_gradient, _):
        (rows, (row, g)), (columns, _) = rows, columns
        scores, pull = evaluate_vjp(problem, needs, shared, rows, columns)
        found = pairs(problem, scores, rows, columns)
        weights = g[:, None] * jnp.exp(found.logits - _finite(row.lse)[:, None])
        logits = weights * (found.values - row.mean[:, None])
        if found.valid is not None:
            logits = jnp.where(found.valid, logits, 0)
        pulled = pull(logits if weights_gradient else jnp.zeros_like(logits), weights)
        return *add((gradient, row_gradient, column_gradient), tuple(pulled)), None

    return step


def top_k(problem: Problem, shared, k: int):
    """A step that merges a block of columns into `Best`; of equal values the lower index comes first."""

    def step(carry, rows: Known, best: Best, columns: Known, column_found, _):
        found = _pairs(problem, shared, rows, columns)
        logits = jnp.where(found.logits == 0, 0, found.logits)  # -0.0 sorts below 0.0 and is no smaller
        values, places = lax.top_k(logits, min(k, logits.shape[1]))
        indices = jnp.where(values == -jnp.inf, jnp.iinfo(jnp.int32).max, columns[0].index[places])
        return carry, better(best, Best(values, indices)), column_found, None

    return step


def better(best: Best, more: Best) -> Best:
    """The k best of both."""
    k = best.values.shape[1]
    values = jnp.concatenate([best.values, more.values], axis=1)
    indices = jnp.concatenate([best.indices, more.indices], axis=1)
    values, indices = lax.sort((-values, indices), num_keys=2)
    return Best(-values[:, :k], indices[:, :k])


def _pairs(problem: Problem, shared, rows: Known, columns: Known) -> Pairs:
    scores, _ = evaluate(problem, shared, rows[0], columns[0])
    return pairs(problem, scores, rows[0], columns[0])


def _targets(found: Pairs, axis: int, wanted: bool):
    """Sums over one axis of targets x logits, with 0 x -inf = 0, and of targets."""
    if found.targets is None or not wanted:
        return 0, 0
    weighted = jnp.where(found.targets != 0, found.targets * found.logits, 0)
    return weighted.sum(axis), found.targets.sum(axis)


def _summands(found: Pairs):
    return found.logits if found.counted is None else jnp.where(found.counted, found.logits, -jnp.inf)


def _values(found: Pairs):
    return found.logits if found.valid is None else jnp.where(found.valid, found.logits, 0)


def _finite(lse):
    """A row without any pair has lse -inf; l - lse must not become inf - inf."""
    return jnp.where(jnp.isneginf(lse), 0, lse)
