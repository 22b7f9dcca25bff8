"""How well the similarity of two embeddings follows what people say of two sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import lexical
from contrastive_jax.evaluation.columns import numbered, numbers, single
from contrastive_jax.evaluation.embedding import Shown
from contrastive_jax.evaluation.libraries import library

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class SentenceSimilarity:
    """Spearman's and Pearson's correlation, by scipy, of the cosine of two sentences with people's score.

    branch: embeds the sentences; first, second, score: fields. group: a field, such as the year or the
    task; then each group's figures come as well (`spearman/STS12`) and their mean (`spearman/mean`), beside
    those of all records together. A group of one record, or whose scores are all equal, has no correlation
    and is left out. baselines: of SIMILARITIES in evaluation/lexical.py, what the words or letters alone
    would give (`tfidf/spearman`).

    Sources: Agirre et al. 2012, SemEval task 6; Reimers et al. 2016 for Spearman's; all records together
    is how Gao et al. 2021, arXiv 2104.08821, report a year.
    """

    branch: str
    first: str = "sentence1"
    second: str = "sentence2"
    score: str = "score"
    source: str | None = None
    group: str | None = None
    baselines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.baselines:
            lexical.check_similarity(name)

    seen: ClassVar[tuple] = ()  # it makes records of its own

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.branch,)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.first, self.second, self.score, self.group)))

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        scores, under = numbers(source, self.score), embed.view(self.branch).field
        a, b = (embed(self.branch, Shown(source, field, under)) for field in (self.first, self.second))
        if not _varied(scores):
            raise InputError(f"{source.name}: {self.score} is the same in all records: nothing correlates")
        names, groups = numbered(single(source, self.group)) if self.group else ([], np.zeros(len(scores)))
        yield from _correlations(cosines(a, b), scores, names, groups)
        for baseline in self.baselines:
            texts = (list(map(str, source.column(field))) for field in (self.first, self.second))
            found = _correlations(lexical.similarities(baseline, *texts), scores, names, groups)
            yield from ((f"{baseline}/{metric}", value) for metric, value in found)


def _correlations(
    similar: Float[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    names: Sequence[str],
    groups: Int[np.ndarray, " n"],
) -> Iterator[tuple[str, float]]:
    """Of all records, of each group, and the mean over groups."""
    stats = library("scipy.stats")
    for measure, correlation in (("spearman", stats.spearmanr), ("pearson", stats.pearsonr)):
        yield measure, _of(correlation, similar, scores)
        values = {}
        for number, name in enumerate(names):
            some = groups == number
            if _varied(scores[some]):
                values[name] = _of(correlation, similar[some], scores[some])
        yield from ((f"{measure}/{name}", value) for name, value in values.items())
        if values:
            yield f"{measure}/mean", float(np.mean(list(values.values())))


def cosines(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """a_i . b_i / (|a_i| |b_i|), in double precision; 0 where one of them is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / np.where(lengths > 0, lengths, 1.0)


def _of(correlation: Any, similar: Float[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """A collapsed model, whose similarities are all the same, correlates with nothing."""
    return float(correlation(similar, scores)[0]) if _varied(similar) else 0.0


def _varied(values: Float[np.ndarray, " n"]) -> bool:
    return len(values) > 1 and np.ptp(values) > 0
