"""Retrieval by the letters and words alone: the honest baselines beside an embedding."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.configuration import nearest
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.libraries import library
from contrastive_jax.evaluation.rankings import Ranking, ranking_of

if TYPE_CHECKING:
    from jaxtyping import Float

_BLOCK = 256  # queries whose scores of the whole corpus stand in memory at a time
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")


def rank(name: str, queries: Sequence[str], corpus: Sequence[str], depth: int) -> Ranking:
    """The answers that a baseline of BASELINES gives; one that shares nothing with the query is none.

    It knows no model, so the last few are kept for the evaluations to come. Raises InputError for an unknown
    name.
    """
    check_baselines((name,))
    return _ranked(name, tuple(queries), tuple(corpus), min(depth, len(corpus)))


@functools.lru_cache(maxsize=8)
def _ranked(name: str, queries: tuple[str, ...], corpus: tuple[str, ...], depth: int) -> Ranking:
    return BASELINES[name](list(queries), list(corpus), depth)


def check_baselines(names: Sequence[str], fusion: str | None = None) -> None:
    """Raises InputError for a baseline that is not there, or a fusion with none."""
    if fusion is not None and not names:
        raise InputError(f"fusion={fusion!r}: with what? name one of the baselines {', '.join(BASELINES)}")
    for name in names:
        if name not in BASELINES:
            raise InputError(f"baselines={name!r}: unknown; {nearest(name, BASELINES)}")


def identifier_words(text: str) -> str:
    """The text with its identifiers in their words: `readHTTPBody_now` is `read HTTP Body now`."""
    return _HUMP.sub(" ", text)


def _bm25(queries: list[str], corpus: list[str], depth: int, stopwords: str | None = "english") -> Ranking:
    """BM25 as the bm25s library computes it by default (Lucene's variant, k1 1.5, b 0.75)."""
    bm25s = library("bm25s")
    known = bm25s.tokenize(corpus, stopwords=stopwords, show_progress=False)
    asked = bm25s.tokenize(queries, stopwords=stopwords, return_ids=False, show_progress=False)
    if not known.vocab or not any(known.ids):
        return ranking_of([[]] * len(queries), depth)
    index = bm25s.BM25()
    index.index(known, show_progress=False)
    answers, scores = index.retrieve(asked, k=depth, show_progress=False)
    there = scores > 0
    return Ranking(np.where(there, answers, -1).astype(np.int64), np.where(there, scores, -np.inf))


def _bm25_identifiers(queries: list[str], corpus: list[str], depth: int) -> Ranking:
    """BM25 of texts and code with identifiers split into their words; no word is too common to count."""
    split = [[identifier_words(text) for text in texts] for texts in (queries, corpus)]
    return _bm25(*split, depth, stopwords=None)


def _tfidf(queries: list[str], corpus: list[str], depth: int, **settings) -> Ranking:
    """Cosine of scikit-learn's TF-IDF vectors, fitted to the corpus, with logarithmic counts."""
    fitted = _vectors(**settings)
    try:
        known = fitted.fit_transform(corpus)
    except ValueError:  # a corpus without a word
        return ranking_of([[]] * len(queries), depth)
    asked, rows = fitted.transform(queries), []
    for start in range(0, len(queries), _BLOCK):
        scores = (asked[start : start + _BLOCK] @ known.T).toarray()
        best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        rows += [
            [(j, s) for j, s in zip(order.tolist(), line[order].tolist()) if s > 0]
            for order, line in zip(best, scores)
        ]
    return ranking_of(rows, depth)


def _vectors(**settings):
    return library("sklearn.feature_extraction.text").TfidfVectorizer(sublinear_tf=True, **settings)


# Runs of 2 to 4 letters within words need no word borders, which a script may lack.
_CHARACTERS = dict(analyzer="char_wb", ngram_range=(2, 4))

BASELINES: dict[str, Callable[[list[str], list[str], int], Ranking]] = {
    "bm25": _bm25,
    "bm25_identifiers": _bm25_identifiers,
    "tfidf": _tfidf,
    "tfidf_characters": functools.partial(_tfidf, **_CHARACTERS),
}
SIMILARITIES: dict[str, dict] = {"tfidf": {}, "tfidf_characters": _CHARACTERS}


def similarities(name: str, first: Sequence[str], second: Sequence[str]) -> Float[np.ndarray, " n"]:
    """The cosine of each two texts' TF-IDF vectors, fitted to all of them; 0 where they share nothing.

    Raises InputError if no text has a word.
    """
    rows = vectors(name, [*first, *second])
    return np.asarray(rows[: len(first)].multiply(rows[len(first) :]).sum(axis=1)).ravel()


def vectors(name: str, texts: Sequence[str]) -> Any:
    """The sparse TF-IDF vectors of texts, [n, words], of unit length, fitted to all of them.

    Raises InputError if no text has a word.
    """
    check_similarity(name)
    try:
        return _vectors(**SIMILARITIES[name]).fit_transform(texts)
    except ValueError as error:
        raise InputError(f"baselines={name!r}: no word in {len(texts)} texts") from error


def check_similarity(name: str) -> None:
    """Raises InputError for a name that is not in SIMILARITIES."""
    if name not in SIMILARITIES:
        raise InputError(f"baselines={name!r}: unknown; {nearest(name, SIMILARITIES)}")
