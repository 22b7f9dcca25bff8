"""Whether one thing is found as well whatever language it is asked for in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import labels, numbered
from contrastive_jax.evaluation.ranks import check_at, ranks

if TYPE_CHECKING:
    from jaxtyping import Float

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class RankVariance:
    """Recall at k of the same records in several languages, its mean over them, and the mean rank variance

        MRV = mean_j (1/K) sum_k (r_jk - mean_k r_jk)^2

    over records j, with r_jk the rank of the right answer in language k of K: 0 where all languages rank
    alike, however badly.

    languages: branches, each with a view of its own of every record; others: the branch that they are
    compared with, such as pictures. Both directions are measured: `en_to_image/R@1`, `to_image/R@1` (the
    mean), `to_image/MRV`, and `image_to_en/R@1`, `from_image/R@1`, `from_image/MRV`. right: the field that
    makes an answer right. An answer that is as near as the right one counts as ahead of it. A rank may be as
    large as the corpus, and so a few lost records make most of MRV: `median_variance` stands beside it.

    Source: Nie et al. 2024, arXiv 2406.18254 (1-to-K).
    """

    languages: tuple[str, ...]
    others: str
    right: str = "record"
    at: tuple[int, ...] = (1, 5)
    source: str | None = None

    def __post_init__(self):
        check_at(self.at)
        if len(set(self.languages)) < 2 or len(set(self.languages)) < len(self.languages):
            raise InputError(f"languages={self.languages}: give two or more different branches")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.languages[0], self.others, *self.languages[1:]  # a pair first: what `search` compares

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.right,)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        right = numbered(labels(source, self.right))[1]
        other = embed(self.others, source)
        each = {name: embed(name, source) for name in self.languages}
        ways = (
            ("to", "{}_to_" + self.others, lambda z: ranks(z, other, right, right)),
            ("from", self.others + "_to_{}", lambda z: ranks(other, z, right, right)),
        )
        for way, title, ranked in ways:
            table = np.stack([ranked(z) for z in each.values()], axis=1)
            for k in sorted(self.at):
                recall = np.mean(table <= k, axis=0)
                named = zip(self.languages, recall.tolist())
                yield from ((f"{title.format(name)}/R@{k}", value) for name, value in named)
                yield f"{way}_{self.others}/R@{k}", float(recall.mean())
            variances = rank_variances(table)
            yield f"{way}_{self.others}/MRV", float(variances.mean())
            yield f"{way}_{self.others}/median_variance", float(np.median(variances))


def rank_variances(table: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """The variance of each row's ranks, of which MRV is the mean."""
    return np.mean((table - table.mean(axis=1, keepdims=True)) ** 2, axis=1)
