"""Label smoothing where examples have several positives and different numbers of columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.similarity import Dot, Extra, Scores, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def smoothed_cross_entropy(
    tile: Dot,
    sides: tuple[dict, dict],
    extra: list[Extra],
    shared: dict[str, Array],
    smoothing: float,
    weights: tuple[Float[Array, " R"], Float[Array, " C"]],
    engine: Mapping[str, Any],
) -> Float[Array, ""]:
    """The sum over both sides of the weighted mean cross-entropy against smoothed targets.

    A smoothed target is (1 - e) T / sum T + e / (number of pairs), so each example weighs by counts of
    its own, which are not known before the sweep. They come first, from a sweep without products; then
    the weights of both directions go into one target matrix, so that one sweep with products serves both.
    weights: of each example; those without a positive are left out of the mean. Zeros leave a side out.
    """

    def counted(rows, columns, shared) -> Scores:
        dots = jnp.zeros((_length(rows), _length(columns)), shared["scale"].dtype)
        return tile.scores(dots, rows, columns, shared)._replace(logits=dots, denominator=None)

    def weighed(dots, rows, columns, shared) -> Scores:
        scores = tile.scores(dots, rows, columns, shared)
        wanted = scores.targets * (rows["positive"][:, None] + columns["positive"][None, :])
        return scores._replace(targets=wanted + rows["every"][:, None] + columns["every"][None, :])

    bare = [_without_embedding(side) for side in sides]
    without_products = {name: value for name, value in engine.items() if name != "backend"}
    further = _with_extra(extra, _without_embedding)
    counts = cross_entropy(counted, *bare, shared, **further, **without_products)
    known = (counts.row_mass, counts.row_lse), (counts.column_mass, counts.column_lse)
    shares, weighing = zip(*(_weighing(w, *k, smoothing) for w, k in zip(weights, known)))
    smoothed = [{**side, **w} for side, w in zip(sides, weighing)]
    extra = _with_extra(extra, lambda c: {**c, **_zeros(_length(c), weighing[1])})
    sums = cross_entropy(Dot(weighed, tile.bound), *smoothed, shared, **extra, **engine)
    each = zip((sums.row_lse, sums.column_lse), shares)
    return sum((jnp.where(w != 0, lse, 0) * w).sum() for lse, w in each) - sums.row_target.sum()


def _weighing(weight, mass, lse, smoothing: float):
    """Each example's share of the mean, and what a positive and what every pair weighs in it."""
    has = (mass > 0) & ~jnp.isneginf(lse)
    share = jnp.where(has, weight, 0).astype(lse.dtype)
    share /= jnp.where(share.sum() == 0, 1, share.sum())
    positive = (1 - smoothing) * share / jnp.where(has, mass, 1)
    every = smoothing * share * jnp.exp(-jnp.where(has, lse, 0))
    return share, jax.lax.stop_gradient({"positive": positive, "every": every})


def _with_extra(extra: list[Extra], change) -> dict[str, list[Extra]]:
    return {"extra": [e._replace(columns=change(e.columns)) for e in extra]} if extra else {}


def _zeros(n: int, like: dict[str, Array]) -> dict[str, Array]:
    return {name: jnp.zeros(n, leaf.dtype) for name, leaf in like.items()}


def _without_embedding(record: dict[str, Array]) -> dict[str, Array]:
    return {name: leaf for name, leaf in record.items() if name != "embedding"}


def _length(record: dict[str, Array]) -> int:
    return len(next(iter(record.values())))
