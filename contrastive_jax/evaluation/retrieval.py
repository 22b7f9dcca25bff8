"""Retrieval between two branches: for each query the nearest of the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec

from contrastive_jax.data.records import Source
from contrastive_jax.distributed.rows import place_everywhere
from contrastive_jax.errors import InputError
from contrastive_jax.similarity import top_k

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

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


def nearest_neighbours(
    queries: Float[np.ndarray, "n d"], corpus: Float[np.ndarray, "m d"], k: int, mesh: Any
) -> Int[np.ndarray, "n k"]:
    """The k rows of the corpus with the largest dot product, best first; never an n x m matrix."""
    with jax.set_mesh(mesh):
        return np.asarray(_search(*place_everywhere(mesh, (queries, corpus)), k))


@partial(jax.jit, static_argnums=2)
def _search(queries, corpus, k):
    indices = top_k(_dot, queries, corpus, k=k)[1]
    return jax.lax.with_sharding_constraint(indices, PartitionSpec())


def _dot(rows, columns, shared):
    return rows @ columns.T


def column(source: Source, name: str) -> Any:
    """One field of all records; InputError where the source has none of that name."""
    try:
        return source.column(name)
    except KeyError:
        raise InputError(f"{source.name} has no field {name!r}, which an evaluator asks for") from None
