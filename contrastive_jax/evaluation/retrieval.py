"""Retrieval between two branches: for each query the nearest of the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import column
from contrastive_jax.evaluation.nearest import nearest_neighbours

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

    from contrastive_jax.evaluation.embedding import Embedder


class Found(NamedTuple):
    """What was retrieved: for each query the records of its nearest, best first, and which are right."""

    queries: Int[np.ndarray, " n"]
    nearest: Int[np.ndarray, "n k"]
    right: Bool[np.ndarray, "n k"]


@dataclass(frozen=True)
class Retrieval:
    """Recall at k in both directions: the share of queries with a right answer among their k nearest.

    rows, columns: branches; the metric `rows_to_columns/R@k` has queries of the first. right: fields of a
    record; an answer is right when it equals the query's in any of them. group: without it every record
    is a query and an answer; with it each group of records gives one query and one answer, the ones that
    the branches' views name as their members (two faces of a character), and smaller groups are left out.
    """

    rows: str
    columns: str
    right: tuple[str, ...]
    group: str | None = None
    at: tuple[int, ...] = (1, 5, 10)
    source: str | None = None

    def __post_init__(self):
        if not self.at or min(self.at) < 1:
            raise InputError(f"at={self.at}: give numbers of answers, 1 or more")
        if not self.right:
            raise InputError("right=(): name at least one field that makes an answer right")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.rows, self.columns

    @property
    def fields(self) -> tuple[str, ...]:
        return self.right if self.group is None else (*self.right, self.group)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        for query, answer in ((self.rows, self.columns), (self.columns, self.rows)):
            found = self.find(embed, source, query, answer, max(self.at))
            for k in sorted(self.at):
                yield f"{query}_to_{answer}/R@{k}", float(found.right[:, :k].any(axis=1).mean())

    def find(self, embed: Embedder, source: Source, query: str, answer: str, k: int) -> Found:
        """The k nearest answers (fewer in a smaller corpus) of every query."""
        queries, corpus = (self._records(embed, source, branch) for branch in (query, answer))
        a, b = embed(query, source, queries), embed(answer, source, corpus)
        nearest = nearest_neighbours(a, b, min(k, len(corpus)), embed.mesh)
        right = np.zeros(nearest.shape, bool)
        for name in self.right:
            values = np.asarray(column(source, name))
            right |= values[queries][:, None] == values[corpus[nearest]]
        return Found(queries, corpus[nearest], right)

    def _records(self, embed: Embedder, source: Source, branch: str) -> Int[np.ndarray, " n"]:
        if self.group is None:
            return np.arange(len(source))
        members = {b: embed.views[embed.graph.branches[b].view].member for b in self.branches}
        values = np.asarray(column(source, self.group))
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
        sizes = np.diff(np.r_[starts, len(order)])
        starts = starts[sizes > max(members.values())]
        if not len(starts):
            raise InputError(
                f"no {self.group} in {source.name} has {max(members.values()) + 1} records to compare"
            )
        return order[starts + members[branch]]
