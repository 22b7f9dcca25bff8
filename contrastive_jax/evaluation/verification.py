"""Whether two records are of one author, speaker or person: verification by their cosine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import lexical
from contrastive_jax.evaluation.labelled import Chosen, chosen
from contrastive_jax.evaluation.libraries import library
from contrastive_jax.evaluation.sentence_similarity import cosines
from contrastive_jax.evaluation.texts import seen_texts

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class Verification:
    """Area under the ROC curve, by scikit-learn, of the cosine of two records as a test for their being of
    one class, and the equal error rate: where as many of the pairs of one class are missed as of two are let
    through.

    branch: `name`, or `name.encoder`. label: the field of the class, such as the author. Half of the `pairs`
    are of one class, half of two, drawn by `seed`: a class evenly among those with two records or more, then
    two of its records; and two classes evenly, then a record of each. baselines: of SIMILARITIES in
    evaluation/lexical.py, where the branch reads texts (`tfidf_characters/auc`). A guess has 0.5 of both.

    Sources: Kestemont et al. 2020, the authorship verification task of PAN; Huertas-Tato et al. 2023,
    arXiv 2310.11081 (STAR).
    """

    branch: str
    label: str = "label"
    source: str | None = None
    pairs: int = 2000
    seed: int = 0
    baselines: tuple[str, ...] = ()

    def __post_init__(self):
        if self.pairs < 2:
            raise InputError(f"pairs={self.pairs}: give 2 or more")
        for name in self.baselines:
            lexical.check_similarity(name)

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.branch,)

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.label,)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        one, other, same = self.draw(chosen(source, self.label))
        view = embed.view(self.branch)
        if self.baselines and not isinstance(view, Text):
            raise InputError(f"baselines={self.baselines}: they need texts, and {self.branch!r} reads none")
        z = embed(self.branch, source)
        yield from _measured("", cosines(z[one], z[other]), same)
        for name in self.baselines:
            vectors = lexical.vectors(name, seen_texts(source, view, view.shown))
            similar = np.asarray(vectors[one].multiply(vectors[other]).sum(axis=1)).ravel()
            yield from _measured(f"{name}/", similar, same)
        yield "pairs", len(same)

    def draw(
        self, known: Chosen
    ) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
        """The two records of each pair, and whether they are of one class.

        Raises InputError where no class has two records.
        """
        order = np.argsort(known.classes, kind="stable")
        members = np.split(known.records[order], np.flatnonzero(np.diff(known.classes[order])) + 1)
        several = [number for number, some in enumerate(members) if len(some) > 1]
        if not several:
            raise InputError(f"{known.source.name}: no {self.label} has two records")
        rng, drawn = np.random.default_rng(self.seed), []
        for number in range(self.pairs):
            if number % 2 == 0:
                some = members[several[rng.integers(len(several))]]
                drawn.append(rng.choice(some, 2, replace=False))
            else:
                a, b = rng.choice(len(members), 2, replace=False)
                drawn.append(np.array([rng.choice(members[a]), rng.choice(members[b])]))
        return *np.transpose(drawn), np.arange(self.pairs) % 2 == 0


def _measured(
    start: str, similar: Float[np.ndarray, " p"], same: Bool[np.ndarray, " p"]
) -> Iterator[tuple[str, float]]:
    metrics: Any = library("sklearn.metrics")
    yield f"{start}auc", float(metrics.roc_auc_score(same, similar))
    wrong, right, _ = metrics.roc_curve(same, similar)
    yield f"{start}equal_error_rate", float(_crossing(wrong, 1 - right))


def _crossing(rising: Float[np.ndarray, " t"], falling: Float[np.ndarray, " t"]) -> float:
    """Where two lines through the same places meet."""
    at = int(np.argmax(rising >= falling))
    if at == 0:
        return rising[0]
    ahead, behind = falling[at - 1] - rising[at - 1], rising[at] - falling[at]
    return rising[at - 1] + (rising[at] - rising[at - 1]) * ahead / (ahead + behind)
