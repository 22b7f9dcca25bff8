"""Hard negatives that a model finds: documents near a query that are not its answer.

Source: Moreira et al. 2024, NV-Retriever, arXiv 2407.15831 (a margin to the positive's score takes out most
false negatives); the rank window is older, as in Zhan et al. 2021, arXiv 2104.08051.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.nearest import search

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

_QUERIES_AT_ONCE = 4096


@dataclass(frozen=True)
class Rule:
    """Which of the documents near a query are its negatives.

    negatives: how many at most, the nearest ones. first, stop: places in the list of the nearest, from 0,
    when everything that counts as an answer has been taken out of it. below: a negative's score is at least
    so much less than the positive's. share: it is at most this share of it, p - (1 - share) |p| of the
    positive's score p (TopK-PercPos; None: no such bound).
    """

    negatives: int = 7
    first: int = 0
    stop: int = 100
    below: float | None = None
    share: float | None = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.stop:
            raise InputError(f"--ranks {self.first}:{self.stop}: give two places A:B with 0 <= A < B")

    @classmethod
    def of(cls, negatives: int, ranks: str, margin: str | None) -> Rule:
        """From the command line: ranks A:B, and a margin X, P% or both with a comma between."""
        first, colon, stop = ranks.partition(":")
        if not colon or not all(part.isascii() and part.isdigit() for part in (first, stop)):
            raise InputError(f"--ranks {ranks}: give two places A:B, such as 10:100")
        bounds = {"below": None, "share": 0.95} if margin is None else _margin(margin)
        return cls(negatives, int(first), int(stop), **bounds)

    def select(
        self,
        scores: Float[np.ndarray, "n k"],
        rows: Int[np.ndarray, "n k"],
        answers: Bool[np.ndarray, "n k"],
        positive: Float[np.ndarray, " n"],
    ) -> Chosen:
        """The negatives of each query.

        scores, rows: its nearest documents, best first (-1: none); answers: which of them are no negatives
        whatever their score; positive: the score of its positive.
        """
        allowed = ~answers & (rows >= 0)
        place = np.cumsum(allowed, axis=1) - 1
        window = allowed & (place >= self.first) & (place < self.stop)
        limit = np.full(len(rows), np.inf)
        if self.below is not None:
            limit = np.minimum(limit, positive - self.below)
        if self.share is not None:
            limit = np.minimum(limit, positive - (1 - self.share) * np.abs(positive))
        far_enough = window & (scores <= limit[:, None])
        chosen = far_enough & (np.cumsum(far_enough, axis=1) <= self.negatives)
        return Chosen(chosen, window & ~far_enough)


class Chosen(NamedTuple):
    """Which of the nearest documents are negatives, and which of the window were too near the positive."""

    chosen: Bool[np.ndarray, "n k"]
    too_near: Bool[np.ndarray, "n k"]


def _margin(text: str) -> dict[str, float | None]:
    found: dict[str, float | None] = {"below": None, "share": None}
    for part in text.split(","):
        name, number = ("share", part[:-1]) if part.endswith("%") else ("below", part)
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if found[name] is not None or not (0 < value <= 100 if name == "share" else 0 <= value < 1e6):
            raise InputError(
                f"--margin {text}: give how much less than the positive's score (0.05), a share of it up to "
                "100% (95%), or both (0.05,95%)"
            )
        found[name] = value / 100 if name == "share" else value
    return found


@dataclass
class Documents:
    """Different texts, each with the identifiers that it goes by."""

    texts: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    of_id: dict[str, set[int]] = field(default_factory=lambda: collections.defaultdict(set))

    def add(self, text: str, identifier: Any = None) -> int:
        """The row of a text; texts that differ in case or blanks alone are one."""
        row = self.rows.setdefault(alike(text), len(self.texts))
        if row == len(self.texts):
            self.texts.append(text)
        if identifier not in (None, ""):
            self.of_id[str(identifier)].add(row)
        return row


def alike(text: str) -> str:
    """What is the same for texts that differ in case or blanks alone."""
    return " ".join(text.casefold().split())


@dataclass
class Pairs:
    """Records as pairs of a query and a document, by their texts; `add` leaves out those that lack one."""

    documents: Documents = field(default_factory=Documents)
    queries: list[str] = field(default_factory=list)
    records: list[tuple[int, int, int]] = field(default_factory=list)  # (record, query, document)
    keys: list[str] = field(default_factory=list)  # of the source's records
    left_out: int = 0
    _query_rows: dict[str, int] = field(default_factory=dict)
    _positives: dict[int, set[int]] = field(default_factory=lambda: collections.defaultdict(set))
    _ids: dict[int, set[str]] = field(default_factory=lambda: collections.defaultdict(set))

    def add(self, record: int, query: str, document: str, identifier: Any = None, own: Any = None) -> None:
        """own: the query's identifier, by which a document may go that is the query itself."""
        if not query.strip() or not document.strip():
            self.left_out += 1
            return
        number = self._query_rows.setdefault(alike(query), len(self.queries))
        if number == len(self.queries):
            self.queries.append(query)
        row = self.documents.add(document, identifier)
        self.records.append((record, number, row))
        self._positives[number].add(row)
        self._ids[number] |= {str(name) for name in (identifier, own) if name not in (None, "")}

    def answers(self, query: int) -> set[int]:
        """The documents that are no negatives of a query: those of all its records, what goes by the same
        identifier as one of them or as the query, and what says just what the query says."""
        found = set(self._positives[query])
        for identifier in self._ids[query]:
            found |= self.documents.of_id[identifier]
        own = self.documents.rows.get(alike(self.queries[query]))
        return found if own is None else found | {own}


class Mined(NamedTuple):
    """One record with its negatives, rows of the documents, nearest first; and how many of its window were
    too near the positive."""

    record: int
    query: int
    document: int
    score: float
    negatives: list[int]
    scores: list[float]
    too_near: int


def mine(
    pairs: Pairs,
    queries: Float[np.ndarray, "q d"],
    documents: Float[np.ndarray, "m d"],
    rule: Rule,
    mesh: Any,
) -> Iterator[Mined]:
    """The negatives of every pair. queries, documents: the embeddings of the pairs' texts, in their order."""
    answers = [pairs.answers(query) for query in range(len(pairs.queries))]
    for start in range(0, len(pairs.records), _QUERIES_AT_ONCE):
        batch = pairs.records[start : start + _QUERIES_AT_ONCE]
        asked = np.array([query for _, query, _ in batch])
        most = max(len(answers[query]) for query in asked)
        scores, rows = search(queries[asked], documents, min(rule.stop + most, len(documents)), mesh)
        right = np.array(
            [[row in answers[query] for row in found] for query, found in zip(asked, rows.tolist())]
        )
        positive = np.einsum("nd,nd->n", queries[asked], documents[[document for *_, document in batch]])
        chosen, too_near = rule.select(scores, rows, right, positive)
        for n, (record, query, document) in enumerate(batch):
            yield Mined(
                *(record, query, document, float(positive[n])),
                *(rows[n][chosen[n]].tolist(), scores[n][chosen[n]].tolist(), int(too_near[n].sum())),
            )
