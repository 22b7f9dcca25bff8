"""Ranks over a whole corpus, a block of queries at a time; what is equally near is never taken as ahead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped

BLOCK_BYTES = 2**26  # of scores that stand in memory at a time


def score_blocks(
    queries: Float[np.ndarray, "n d"], corpus: Float[np.ndarray, "m d"], size: int | None = None
) -> Iterator[tuple[slice, Float[np.ndarray, "b m"]]]:
    """Some of the queries after another, and their dot products with the whole corpus.

    They are summed in double and rounded to single precision, so that equal vectors have equal scores
    wherever they stand. size: queries in a block (None: as many as fit BLOCK_BYTES).
    """
    queries, corpus = np.asarray(queries, np.float64), np.asarray(corpus, np.float64)
    size = size or max(BLOCK_BYTES // (8 * max(len(corpus), 1)), 1)
    for start in range(0, len(queries), size):
        some = slice(start, min(start + size, len(queries)))
        yield some, (queries[some] @ corpus.T).astype(np.float32)


def first_ranks(scores: Float[np.ndarray, "b m"], right: Bool[np.ndarray, "b m"]) -> Float[np.ndarray, " b"]:
    """The rank, from 1, of each query's nearest right answer, behind all wrong ones that are as near;
    infinity where nothing is right, or that answer's score is -inf (no answer at all)."""
    best = np.where(right, scores, -np.inf).max(axis=1)
    ahead = np.sum(~right & (scores >= best[:, None]), axis=1)
    return np.where(best > -np.inf, ahead + 1.0, np.inf)


def average_precisions(
    scores: Float[np.ndarray, "b m"], right: Bool[np.ndarray, "b m"]
) -> Float[np.ndarray, " b"]:
    """AP of each query: the mean, over its right answers, of the share of right ones among all that are at
    least as near; nan where nothing is right. An answer with the score -inf is none.

    Of different scores that is trec_eval's MAP; of equal ones scikit-learn's average_precision_score, which
    a model that gives one score to all earns no more than chance with.
    """
    ascending, precisions = np.sort(scores, axis=1), np.full(len(scores), np.nan)
    for row, (all_scores, ordered) in enumerate(zip(scores, ascending)):
        own = np.sort(all_scores[right[row] & (all_scores > -np.inf)])
        if len(own):
            as_near, right_ones = (len(x) - np.searchsorted(x, own) for x in (ordered, own))
            precisions[row] = np.mean(right_ones / as_near)
    return precisions


def ranks(
    queries: Float[np.ndarray, "n d"],
    corpus: Float[np.ndarray, "m d"],
    asked: Shaped[np.ndarray, " n"],
    given: Shaped[np.ndarray, " m"],
) -> Float[np.ndarray, " n"]:
    """`first_ranks` of all queries; an answer is right where `given` equals the query's `asked`."""
    found = [
        first_ranks(scores, asked[some][:, None] == given[None, :])
        for some, scores in score_blocks(queries, corpus)
    ]
    return np.concatenate(found)


def check_at(at: tuple[int, ...]) -> None:
    """Raises InputError for numbers of answers that are none."""
    if not at or min(at) < 1:
        raise InputError(f"at={at}: give numbers of answers, 1 or more")
