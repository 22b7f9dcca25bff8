"""Whether embeddings tell texts apart by their lengths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import labels, numbers
from contrastive_jax.evaluation.embedding import Shown
from contrastive_jax.evaluation.sentence_similarity import cosines

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class LengthBias:
    """How the cosine of two texts changes with the difference of their lengths, in words between blanks.

    `slope`: of the least-squares line of the cosine over |words of one - words of the other|; 0 without a
    bias, below 0 where texts of like length are taken for alike. `correlation`: Pearson's of the two.
    `near_cosine`, `far_cosine`: the mean of pairs that differ by up to `far` words, and by more; their
    difference is `gap`.

    branch: embeds the texts; first, second: fields of a record's two texts, and score: a field that says
    how alike people find them, whose own share in the cosine is taken out of the slope first (least squares
    of both together). Without `second`, pairs of different records' texts in `first` are drawn by `seed`,
    `pairs` of them, the same whatever the model.

    Source: Wu et al. 2022, arXiv 2109.04380 (ESimCSE, of STS pairs that differ by up to 3 words or by more).
    """

    branch: str
    first: str = "sentence1"
    second: str | None = None
    score: str | None = None
    source: str | None = None
    pairs: int = 10_000
    far: int = 3
    seed: int = 0

    def __post_init__(self):
        if self.pairs < 3 or self.far < 0:
            raise InputError(f"pairs={self.pairs}, far={self.far}: give 3 or more pairs, and 0 words or more")
        if self.score is not None and self.second is None:
            raise InputError(f"score={self.score!r}: it is of two texts; give second as well")

    seen: ClassVar[tuple] = ()  # it makes records of its own

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.branch,)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.first, self.second, self.score)))

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        under = embed.view(self.branch).field
        a, words = self._side(embed, source, self.first, under)
        if self.second is None:
            one, other = self._drawn(len(source), source.name)
            similar, apart = cosines(a[one], a[other]), np.abs(words[one] - words[other])
        else:
            b, others = self._side(embed, source, self.second, under)
            similar, apart = cosines(a, b), np.abs(words - others)
        if not np.ptp(apart):
            raise InputError(
                f"{source.name}: all pairs differ by {apart[0]:g} words, so nothing depends on it"
            )
        held = [] if self.score is None else [numbers(source, self.score)]
        yield "slope", slope(similar, apart, *held)
        varied = np.ptp(similar) > 0
        yield "correlation", float(np.corrcoef(similar, apart)[0, 1]) if varied else 0.0
        near = apart <= self.far
        if near.any() and not near.all():
            means = [float(similar[some].mean()) for some in (near, ~near)]
            yield from zip(("near_cosine", "far_cosine"), means)
            yield "gap", means[0] - means[1]
        yield "pairs", len(similar)

    def _side(
        self, embed: Embedder, source: Source, field: str, under: str
    ) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
        words = np.array([len(str(text).split()) for text in labels(source, field)])
        return embed(self.branch, Shown(source, field, under)), words

    def _drawn(self, count: int, name: str) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
        if count < 2:
            raise InputError(f"{name} has one record: pairs are of two")
        rng = np.random.default_rng(self.seed)
        one = rng.integers(count, size=self.pairs)
        return one, (one + rng.integers(1, count, size=self.pairs)) % count


def slope(
    values: Float[np.ndarray, " n"], over: Float[np.ndarray, " n"], *held: Float[np.ndarray, " n"]
) -> float:
    """The least-squares coefficient of `over` in a linear model of the values with a constant and `held`."""
    table = np.stack([np.asarray(over, np.float64), np.ones(len(over)), *held], axis=1)
    return float(np.linalg.lstsq(table, np.asarray(values, np.float64), rcond=None)[0][0])
