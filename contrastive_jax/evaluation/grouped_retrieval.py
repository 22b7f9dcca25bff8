"""Finding groups by their members: videos by a text or a picture, from the embeddings of their frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from contrastive_jax.data.records import Source, comparable
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.aggregation import AGGREGATORS, aggregate, check_aggregators, most
from contrastive_jax.evaluation.columns import labels, numbered
from contrastive_jax.evaluation.labelled import Chosen, chosen, unit_rows
from contrastive_jax.evaluation.prompts import called, check_templates, prompted
from contrastive_jax.evaluation.ranks import check_at, first_ranks, score_blocks

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


class Asked(NamedTuple):
    """Queries and what they are asked of: the class of each, the example that stands for it (-1: none is
    needed), the records that are the frames, of each query its own or of all the same, the group of each
    frame, and the class that each frame shows (None: the first group alone shows the query's)."""

    classes: Int[np.ndarray, " q"]
    examples: Int[np.ndarray, " q"]
    frames: Int[np.ndarray, "q n"] | Int[np.ndarray, " n"]
    groups: Int[np.ndarray, " n"]
    shown: Int[np.ndarray, " n"] | None

    def right(self, some: slice) -> Bool[np.ndarray, "b g"]:
        """Which groups show the class of some of the queries."""
        if self.shown is None:
            return np.tile(np.arange(self.groups.max() + 1) == 0, (len(self.classes[some]), 1))
        return most(self.shown == self.classes[some, None], self.groups)


@dataclass(frozen=True)
class GroupedRetrieval:
    """Recall at k, and mean reciprocal rank, of groups of records that show the query's class, such as
    videos by their frames, for each way of scoring a group by the cosines of its members.

    queries, frames: branches. A query is a class: the mean of its prompts, each a template with the name
    (from the field `names`, or the label itself) in it, where `queries` reads texts; else one of its
    records, which is then no frame. label: the field of a record's class.

    group: the field that says which video a record is of; every class is one query to all of them. Without
    it videos are made of the source's records: each of the `trials` queries of a class has `candidates`
    videos of `bag` records, of which one holds `hits` of the class, and the others none. All is drawn by
    `seed` without repetition, whatever the model.

    aggregators: max; vote, among the `pool` best frames; mean; softmax, the mean weighted by softmax(cosine
    / temperature). Of groups that score alike the right one comes last, so a model that tells nothing apart
    finds nothing. `chance`: of R@1, by drawing lots.

    Source: Taesiri et al. 2022, arXiv 2203.11096 (max and vote).
    """

    queries: str
    frames: str
    label: str = "label"
    group: str | None = None
    source: str | None = None
    names: str | None = None
    templates: tuple[str, ...] = ("{}",)
    bag: int = 20
    hits: int = 1
    candidates: int = 10
    trials: int = 10
    aggregators: tuple[str, ...] = AGGREGATORS
    pool: int = 20
    temperature: float = 0.1
    at: tuple[int, ...] = (1, 5)
    seed: int = 0

    def __post_init__(self):
        check_at(self.at)
        check_templates(self.templates)
        check_aggregators(self.aggregators, self.pool, self.temperature)
        if not 1 <= self.hits <= self.bag:
            raise InputError(f"hits={self.hits}, bag={self.bag}: give hits from 1 to the records of a bag")
        if self.candidates < 2 or self.trials < 1:
            raise InputError(f"candidates={self.candidates}, trials={self.trials}: give 2 or more, and 1")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.queries, self.frames

    @property
    def seen(self) -> tuple[str, ...]:
        return (self.frames,)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.label, self.group, self.names)))

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        known, texts = chosen(source, self.label), isinstance(embed.view(self.queries), Text)
        asked = self.bags(known, not texts) if self.group is None else self.videos(known, not texts)
        frames = unit_rows(embed(self.frames, source))
        if texts:
            given = comparable(labels(source, self.label))
            words = called(source, given, known.names, self.names)
            z = prompted(embed, self.queries, words, self.templates)[asked.classes]
        else:
            z = unit_rows(embed(self.queries, source, asked.examples))
        found, lots = {how: [] for how in self.aggregators}, []
        for some, scores in _scores(z, frames, asked.frames):
            right = asked.right(some)
            lots.append(right.mean(axis=1))
            for how, ranks in found.items():
                ordered = aggregate(how, scores, asked.groups, self.pool, self.temperature)
                ranks.append(first_ranks(ordered, right))
        for how, parts in found.items():
            ranks = np.concatenate(parts)
            yield from ((f"{how}/R@{k}", float(np.mean(ranks <= k))) for k in sorted(self.at))
            yield f"{how}/MRR", float(np.mean(1 / ranks))
        yield "chance", float(np.mean(np.concatenate(lots)))
        yield "queries", len(asked.classes)

    def bags(self, known: Chosen, examples: bool) -> Asked:
        """Videos made on the spot; the first candidate of a query is the one that shows its class.

        Raises InputError for a class that has too few records, or is all but too many.
        """
        rng, rows, queries = np.random.default_rng(self.seed), [], []
        present, needed = np.unique(known.classes), self.candidates * self.bag - self.hits
        for number in present:
            own = known.records[known.classes == number]
            other = known.records[known.classes != number]
            for some, count, what in ((own, self.hits + examples, "of"), (other, needed, "not of")):
                if len(some) < count:
                    raise InputError(
                        f"{known.source.name} has {len(some)} records {what} the {self.label} "
                        f"{known.names[number]!r}, and {self.candidates} bags of {self.bag} with "
                        f"{self.hits} hits take {count}"
                    )
            for _ in range(self.trials):
                drawn = rng.choice(own, self.hits + examples, replace=False)
                queries.append((number, drawn[-1] if examples else -1))
                rows.append(np.concatenate([drawn[: self.hits], rng.choice(other, needed, replace=False)]))
        groups = np.repeat(np.arange(self.candidates), self.bag)
        return Asked(*np.transpose(queries), np.stack(rows), groups, None)

    def videos(self, known: Chosen, examples: bool) -> Asked:
        """The source's own videos, and every class that one of them shows as a query."""
        present, drawn = np.unique(known.classes), np.full(len(known.names), -1)
        if examples:
            rng = np.random.default_rng(self.seed)
            drawn[present] = [rng.choice(known.records[known.classes == number]) for number in present]
        kept = ~np.isin(known.records, drawn[present])
        videos = np.asarray(numbered(labels(known.source, self.group))[1])[kept]
        groups = np.unique(videos, return_inverse=True)[1]
        shown = known.classes[kept]
        classes = present[np.isin(present, shown)]
        if not len(classes):
            raise InputError(f"{known.source.name}: no {self.group} shows a {self.label} beside its example")
        return Asked(classes, drawn[classes], known.records[kept], groups, shown)


def _scores(
    z: Float[np.ndarray, "q d"],
    frames: Float[np.ndarray, "m d"],
    places: Int[np.ndarray, "q n"] | Int[np.ndarray, " n"],
) -> Iterator[tuple[slice, Float[np.ndarray, "b n"]]]:
    """The cosines of some of the queries after another with their frames."""
    if places.ndim == 1:
        yield from score_blocks(z, frames[places])
        return
    for number, row in enumerate(places):
        some = slice(number, number + 1)
        yield some, next(score_blocks(z[some], frames[row]))[1]
