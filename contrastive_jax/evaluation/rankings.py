"""Ranked answers, and two rankings fused into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

RANK_OFFSET = 60  # of reciprocal rank fusion, as its authors set it
FUSIONS = ("reciprocal_rank", "min_max")


class Ranking(NamedTuple):
    """For each query the numbers of its answers, best first, with their scores; -1 where there is none."""

    answers: Int[np.ndarray, "n k"]
    scores: Float[np.ndarray, "n k"]


def without_identical(ranking: Ranking, queries: Sequence[str | None], documents: Sequence[str]) -> Ranking:
    """A ranking without the answers whose id is the query's own (None: it has none); the others move up."""
    numbers = {name: number for number, name in enumerate(documents)}
    own = ranking.answers == np.array([numbers.get(name, -2) for name in queries])[:, None]
    order = np.argsort(own, axis=1, kind="stable")
    answers, scores = (np.take_along_axis(each, order, axis=1) for each in ranking)
    left_out = np.take_along_axis(own, order, axis=1)
    return Ranking(np.where(left_out, -1, answers), np.where(left_out, -np.inf, scores))


def check_fusion(how: str | None, weight: float) -> None:
    """Raises InputError for another `how` than FUSIONS has (None: no fusion), or a weight outside 0..1."""
    if how not in (None, *FUSIONS):
        raise InputError(f"fusion={how!r}: give one of {', '.join(FUSIONS)}")
    if not 0 <= weight <= 1:
        raise InputError(f"weight={weight}: give a share from 0 to 1")


def fuse(first: Ranking, second: Ranking, how: str, weight: float = 0.5) -> Ranking:
    """One ranking of two, as deep as the deeper one; an answer that one of them lacks scores 0 there.

    how: `reciprocal_rank`, the sum of 1 / (60 + rank) (Cormack, Clarke and Buettcher 2009), or `min_max`,
    the sum of the two scores, each brought to 0..1 by the query's least and greatest, the first one
    times `weight` and the second times 1 - `weight`. Of equal scores the lower number comes first.

    Raises InputError as `check_fusion`.
    """
    check_fusion(how, weight)
    shares = (1.0, 1.0) if how == "reciprocal_rank" else (weight, 1 - weight)
    worth = _reciprocal if how == "reciprocal_rank" else _min_max
    depth = max(first.answers.shape[1], second.answers.shape[1])
    rows = []
    for query in range(len(first.answers)):
        found: dict[int, float] = {}
        for ranking, share in zip((first, second), shares):
            there = ranking.answers[query] >= 0
            values = share * worth(ranking.scores[query][there].astype(np.float64))
            for answer, value in zip(ranking.answers[query][there].tolist(), values.tolist()):
                found[answer] = found.get(answer, 0.0) + value
        rows.append(sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:depth])
    return ranking_of(rows, depth)


def ranking_of(rows: Sequence[Sequence[tuple[int, float]]], depth: int) -> Ranking:
    """A ranking of (answer, score) lists, filled up to one depth."""
    answers = np.full((len(rows), depth), -1, np.int64)
    scores = np.full((len(rows), depth), -np.inf)
    for number, row in enumerate(rows):
        if row:
            answers[number, : len(row)], scores[number, : len(row)] = zip(*row)
    return Ranking(answers, scores)


def first_right(ranking: Ranking, right: Int[np.ndarray, " n"], ids: Int[np.ndarray, " m"]) -> np.ndarray:
    """The rank from 1 of each query's first answer whose id is `right`, and infinity where there is none."""
    hit = (ids[ranking.answers] == right[:, None]) & (ranking.answers >= 0)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)


def _reciprocal(scores: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    return 1.0 / (RANK_OFFSET + 1 + np.arange(len(scores)))


def _min_max(scores: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    if not len(scores):
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)
