"""The score of a group from those of its members: of a video from its frames'."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.configuration import nearest
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

AGGREGATORS = ("max", "vote", "mean", "softmax")


def check_aggregators(names: tuple[str, ...], pool: int, temperature: float) -> None:
    """Raises InputError for a name that is not in AGGREGATORS, or for none, and for an empty pool."""
    if not names:
        raise InputError(f"aggregators=(): give some of {', '.join(AGGREGATORS)}")
    for name in names:
        if name not in AGGREGATORS:
            raise InputError(f"aggregators={name!r}: unknown; {nearest(name, AGGREGATORS)}")
    if pool < 1:
        raise InputError(f"pool={pool}: give a number of members, 1 or more")
    if temperature <= 0:
        raise InputError(f"temperature={temperature}: give a number above 0")


def aggregate(
    how: str,
    scores: Float[np.ndarray, "q n"],
    groups: Int[np.ndarray, " n"],
    pool: int,
    temperature: float,
) -> Float[np.ndarray, "q g"]:
    """A score of every group, of which only the order within a query means anything.

    max: its best member's. mean: its members'. softmax: the mean weighted by softmax(score / temperature)
    within the group, which lies between them. vote: the order by `votes`, and of equally many by the best
    member. groups: each member's, from 0, with none left out. With one member a group all are the order of
    the members.

    Source (max and vote): Taesiri et al. 2022, arXiv 2203.11096.
    """
    best = most(scores, groups)
    if how == "max":
        return best
    if how == "mean":
        found = totals(scores, groups) / np.bincount(groups)
    elif how == "softmax":
        found = softmax_mean(scores, groups, temperature)
    else:
        found = votes(scores, groups, pool)
    found = found.astype(np.float32)  # sums that are equal but for the order of their terms are equal
    return levels(found, best) if how == "vote" else found


def most(scores: Float[np.ndarray, "q n"], groups: Int[np.ndarray, " n"]) -> Float[np.ndarray, "q g"]:
    """The largest score of each group."""
    order, starts = _by_group(groups)
    return np.maximum.reduceat(scores[:, order], starts, axis=1)


def totals(scores: Float[np.ndarray, "q n"], groups: Int[np.ndarray, " n"]) -> Float[np.ndarray, "q g"]:
    """The sum of each group's scores."""
    order, starts = _by_group(groups)
    return np.add.reduceat(np.asarray(scores, np.float64)[:, order], starts, axis=1)


def softmax_mean(
    scores: Float[np.ndarray, "q n"], groups: Int[np.ndarray, " n"], temperature: float
) -> Float[np.ndarray, "q g"]:
    """sum_f w_f s_f with w = softmax of s / temperature over the members f of a group."""
    weights = np.exp((scores - most(scores, groups)[:, groups]).astype(np.float64) / temperature)
    return totals(weights * scores, groups) / totals(weights, groups)


def votes(
    scores: Float[np.ndarray, "q n"], groups: Int[np.ndarray, " n"], pool: int
) -> Float[np.ndarray, "q g"]:
    """How many of a query's `pool` best members are each group's; equally good ones share the last places,
    so that a row sums to the pool (or to all members, if they are fewer) and no place in the corpus is
    favoured."""
    pool = min(pool, scores.shape[1])
    last = np.partition(scores, -pool, axis=1)[:, -pool, None]
    inside, equal = scores > last, scores == last
    share = (pool - inside.sum(axis=1, keepdims=True)) / equal.sum(axis=1, keepdims=True)
    return totals(inside + share * equal, groups)


def levels(first: Float[np.ndarray, "q g"], second: Float[np.ndarray, "q g"]) -> Float[np.ndarray, "q g"]:
    """Whole numbers, within a row in the order of `first`, and of `second` where that is equal."""
    order = np.lexsort((second, first), axis=1)
    steps = np.zeros(first.shape)
    for values in (first, second):
        ordered = np.take_along_axis(values, order, axis=1)
        steps[:, 1:] += ordered[:, 1:] != ordered[:, :-1]
    found = np.empty(first.shape)
    np.put_along_axis(found, order, np.cumsum(steps > 0, axis=1).astype(float), axis=1)
    return found


def _by_group(groups: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " g"]]:
    order = np.argsort(groups, kind="stable")
    return order, np.flatnonzero(np.r_[True, np.diff(groups[order]) > 0])
