"""Retrieval between two branches: for each query the nearest of the corpus."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from contrastive_jax.configuration import nearest
from contrastive_jax.data.records import Source, comparable
from contrastive_jax.data.views.text import strings
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import column, labels, single, there
from contrastive_jax.evaluation.nearest import search
from contrastive_jax.evaluation.ranks import check_at

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

    from contrastive_jax.evaluation.embedding import Embedder


class Found(NamedTuple):
    """What was retrieved: for each query its nearest answers, best first, and which are right. Queries and
    answers are numbers of items, see `Retrieval.items`; -1 is none."""

    queries: Int[np.ndarray, " n"]
    nearest: Int[np.ndarray, "n k"]
    right: Bool[np.ndarray, "n k"]


class Items(NamedTuple):
    """What a branch has to offer: some records of a source that are queries or answers."""

    source: Source
    numbers: Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Retrieval:
    """Recall at k in both directions: the share of queries with a right answer among their k nearest.

    rows, columns: branches; the metric `rows_to_columns/R@k` has queries of the first. right: fields of a
    record; an answer is right when it equals the query's in any of them, which both have.

    Without more, every record is a query and an answer. several: a branch whose view reads a list of texts,
    such as the five captions of a picture; each of them is a query and an answer. once: branches of which
    records with the same first `right` field are one item, such as the picture of captions that stand in
    records of their own. exclude_self: a query's own record is no answer, for a branch against itself.
    group: each group of records gives one query and one answer, the ones that the branches' views name as
    their members (two faces of a character), and smaller groups are left out.

    The definition for pictures with several captions is that of Karpathy and Fei-Fei 2015,
    arXiv 1412.2306.
    """

    rows: str
    columns: str
    right: tuple[str, ...]
    group: str | None = None
    at: tuple[int, ...] = (1, 5, 10)
    source: str | None = None
    several: str | None = None
    once: tuple[str, ...] = ()
    exclude_self: bool = False

    def __post_init__(self):
        check_at(self.at)
        if not self.right:
            raise InputError("right=(): name at least one field that makes an answer right")
        for key, names in (("several", (self.several,) * bool(self.several)), ("once", self.once)):
            for name in names:
                if name not in self.branches:
                    raise InputError(f"{key}={name!r}: {nearest(name, self.branches)}")
        if self.group is not None and (self.several or self.once):
            raise InputError("group: its records are members of one item; leave out several and once")

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
        ways = dict.fromkeys(((self.rows, self.columns), (self.columns, self.rows)))
        for query, answer in ways:
            found = self.find(embed, source, query, answer, max(self.at))
            for k in sorted(self.at):
                yield f"{query}_to_{answer}/R@{k}", float(found.right[:, :k].any(axis=1).mean())

    def find(self, embed: Embedder, source: Source, query: str, answer: str, k: int) -> Found:
        """The k nearest answers (fewer in a smaller corpus) of every query."""
        queries, corpus = (self.items(embed, source, branch) for branch in (query, answer))
        a, b = (embed(name, *items) for name, items in ((query, queries), (answer, corpus)))
        apart = None
        if self.exclude_self:
            apart = tuple(
                np.asarray(column(items.source, "record"))[items.numbers] for items in (queries, corpus)
            )
        places = search(a, b, k, embed.mesh, apart=apart)[1]
        right = np.zeros(places.shape, bool)
        for name in self.right:
            asked, given = (
                comparable(single(items.source, name))[items.numbers] for items in (queries, corpus)
            )
            right |= (asked[:, None] == given[places]) & there(given)[places]
        found = places >= 0
        return Found(queries.numbers, np.where(found, corpus.numbers[places], -1), right & found)

    def items(self, embed: Embedder, source: Source, branch: str) -> Items:
        """What a branch has to offer of a source."""
        if self.group is not None:
            return Items(source, self._members(embed, source, branch))
        if branch == self.several:
            source = spread(source, embed.view(branch).field)
        numbers = np.arange(len(source))
        if branch in self.once:
            numbers = np.sort(np.unique(comparable(labels(source, self.right[0])), return_index=True)[1])
        return Items(source, numbers)

    def _members(self, embed: Embedder, source: Source, branch: str) -> Int[np.ndarray, " n"]:
        members = {b: embed.view(b).member for b in self.branches}
        values = comparable(labels(source, self.group))
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.r_[True, values[order][1:] != values[order][:-1]])
        sizes = np.diff(np.r_[starts, len(order)])
        starts = starts[sizes > max(members.values())]
        if not len(starts):
            raise InputError(
                f"no {self.group} in {source.name} has {max(members.values()) + 1} records to compare"
            )
        return order[starts + members[branch]]


@functools.lru_cache(maxsize=8)
def spread(source: Source, field: str) -> Spread:
    """A source with a record for each text of a list; the same object for the same source."""
    return Spread(source, field)


class Spread:
    """The records of a source, each as often as its `field` lists texts, with one of them in it."""

    def __init__(self, source: Source, field: str):
        self.name, self.source, self.field = source.name, source, field
        # A text that is absent or empty is none: it would be the nearest to every other empty one.
        lists = [list(filter(None, strings([value]))) for value in column(source, field)]
        self.texts = [text for texts in lists for text in texts]
        self.owner = np.repeat(np.arange(len(lists)), [len(texts) for texts in lists])
        if not self.texts:
            raise InputError(f"{source.name}: no record has a text in {field!r}")

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.source[int(self.owner[index])], self.field: self.texts[index]}

    def column(self, name: str) -> Any:
        return self.texts if name == self.field else comparable(self.source.column(name))[self.owner]
