"""Finding the same one again: pictures of one person, player or character among those of all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import labels, numbered
from contrastive_jax.evaluation.labelled import unit_rows
from contrastive_jax.evaluation.opening import opened
from contrastive_jax.evaluation.ranks import average_precisions, check_at, first_ranks, score_blocks

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class ReIdentification:
    """mAP, and the cumulated matching characteristic (`rank_1`: the share of queries whose nearest answer is
    of their identity), by cosine, over the whole gallery.

    branch: embeds the queries; gallery_branch: the gallery (None: the same). identity: the field that makes
    an answer right. gallery: the spec of the records that are searched; without it they are the source's
    own, and a record is no answer to itself. camera: a field, such as a camera or a drawer; answers of the
    query's identity and camera count neither as right nor as wrong, as in Market-1501. A query without any
    right answer left is left out. limit: so many queries, drawn by `seed` (None: all). Identities of the
    training should not occur in either.

    Metrics: mAP, rank_k for each k of `at`, `queries`, and `chance`: the mean share of right answers in the
    gallery, which the nearest of embeddings that know nothing is with that probability.

    Sources: Zheng et al. 2015, Scalable Person Re-identification (Market-1501: mAP, CMC, cameras); Habel et
    al. 2022, arXiv 2303.11855.
    """

    branch: str
    identity: str = "label"
    source: str | None = None
    gallery: str | None = None
    gallery_branch: str | None = None
    camera: str | None = None
    at: tuple[int, ...] = (1, 5, 10)
    limit: int | None = None
    seed: int = 0

    def __post_init__(self):
        check_at(self.at)
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit={self.limit}: give 1 or more, or None")

    @property
    def branches(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.branch, self.gallery_branch)))

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.identity, self.camera)))

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,) if self.gallery is None else (self.source, self.gallery)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        gallery = source if self.gallery is None else opened(self.gallery)
        asked = np.arange(len(source))
        if self.limit is not None and self.limit < len(asked):
            drawn = np.random.default_rng(self.seed).choice(len(asked), self.limit, replace=False)
            asked = np.sort(drawn)
        corpus = unit_rows(embed(self.gallery_branch or self.branch, gallery))
        queries = unit_rows(embed(self.branch, source, asked))
        found = []
        same = {name: self._same(name, source, gallery, asked) for name in self.fields}
        for some, scores in score_blocks(queries, corpus):
            right = same[self.identity](some)
            junk = np.zeros_like(right)
            if gallery is source:
                junk[np.arange(len(junk)), asked[some]] = True
            if self.camera is not None:
                junk |= right & same[self.camera](some)
            scores, right = np.where(junk, -np.inf, scores), right & ~junk
            share = right.sum(axis=1) / np.maximum((~junk).sum(axis=1), 1)
            found.append(np.stack([average_precisions(scores, right), first_ranks(scores, right), share]))
        precision, rank, share = np.concatenate(found, axis=1)
        answered = share > 0
        if not answered.any():
            raise InputError(f"{gallery.name}: no query has another record of its {self.identity}")
        yield "mAP", float(precision[answered].mean())
        yield from ((f"rank_{k}", float(np.mean(rank[answered] <= k))) for k in sorted(self.at))
        yield "chance", float(share[answered].mean())
        yield "queries", int(answered.sum())

    def _same(self, field: str, source: Source, gallery: Source, asked: Int[np.ndarray, " n"]) -> Any:
        """A function from a slice of the queries to which of the gallery's records share the field."""
        if gallery is source:
            numbers = numbered(labels(source, field))[1]
            own, other = numbers[asked], numbers
        else:
            both = numbered([*labels(source, field), *labels(gallery, field)])[1]
            own, other = both[: len(source)][asked], both[len(source) :]

        def same(some: slice) -> Bool[np.ndarray, "b m"]:
            return own[some][:, None] == other[None, :]

        return same
