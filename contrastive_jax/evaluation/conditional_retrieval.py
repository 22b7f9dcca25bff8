"""Finding what completes several others: the third modality from two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import labels, numbered
from contrastive_jax.evaluation.ranks import check_at, ranks

if TYPE_CHECKING:
    from jaxtyping import Float

    from contrastive_jax.evaluation.embedding import Embedder

SCORES = {"product": np.multiply, "sum": np.add}


@dataclass(frozen=True)
class ConditionalRetrieval:
    """Recall at k and mean reciprocal rank of the right answer among all, by several embeddings at once.

    given: branches of the query; answers: the branch that is searched. scores: `product`, sum_d x_d prod_m
    q_md, the multilinear product of the query's embeddings and an answer's; `sum`, sum_m q_m . x, which
    ranks as the sum of all pairwise dot products does, since those of the query's own are the same for
    every answer. Each is measured (`product/R@1`, `sum/R@1`). Where a modality is missing, its place in
    `given` takes a branch of what stands for it, or none.

    right: the field that makes an answer right; records that share its value are one answer, the first of
    them (ten digits, of which each record has one). An answer as near as the right one is ahead of it.
    `chance`: of R@1; `answers`: how many there are.

    Source: Saporta et al. 2024, arXiv 2411.01053 (Symile).
    """

    given: tuple[str, ...]
    answers: str
    right: str = "record"
    scores: tuple[str, ...] = ("product", "sum")
    at: tuple[int, ...] = (1, 5)
    source: str | None = None

    def __post_init__(self):
        check_at(self.at)
        if not self.given:
            raise InputError("given=(): name the branches of the query")
        unknown = [name for name in self.scores if name not in SCORES]
        if unknown or not self.scores:
            raise InputError(f"scores={self.scores}: give some of {', '.join(SCORES)}")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.given[0], self.answers, *self.given[1:]  # a pair first: what `search` compares

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.right,)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        right = numbered(labels(source, self.right))[1]
        offered = np.sort(np.unique(right, return_index=True)[1])
        answers = embed(self.answers, source, offered)
        queries = [embed(name, source) for name in self.given]
        for name in self.scores:
            found = ranks(together(queries, name), answers, right, right[offered])
            yield from ((f"{name}/R@{k}", float(np.mean(found <= k))) for k in sorted(self.at))
            yield f"{name}/MRR", float(np.mean(1 / found))
        yield "chance", 1 / len(offered)
        yield "answers", len(offered)


def together(embeddings: Sequence[Float[np.ndarray, "n d"]], score: str) -> Float[np.ndarray, "n d"]:
    """One query of several: its dot product with an answer is the score of SCORES. In double precision: a
    product of several unit vectors is small."""
    return reduce(SCORES[score], [np.asarray(z, np.float64) for z in embeddings])
