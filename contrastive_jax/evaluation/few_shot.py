"""Few-shot classification: episodes of classes that are told apart from a handful of examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import lexical
from contrastive_jax.evaluation.columns import numbered, single
from contrastive_jax.evaluation.labelled import Chosen, chosen, pixels, unit_rows
from contrastive_jax.evaluation.texts import seen_texts

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embedding import Embedder

NORMAL_95 = 1.96  # standard errors each way that hold 95 % of a mean's normal distribution


@dataclass(frozen=True)
class FewShot:
    """Accuracy of the nearest centroid in episodes of `ways` classes, with `shots` known examples of each and
    `queries` to name: the mean over the episodes, and the half-width of its 95 % interval.

    branch: `name`, or `name.encoder` for what its encoder gives before any head; embeddings have unit
    length, a class is the mean of its examples, the nearest one by Euclidean distance. label: the field of
    the class. within: a field; the classes of an episode share its value, such as an alphabet. Classes and
    examples are drawn by `seed`, the same ones whatever the model. pixels: the same episodes with raw
    pictures (`pixels_accuracy`). baselines: the same episodes with TF-IDF vectors, of SIMILARITIES in
    evaluation/lexical.py (`tfidf_characters/accuracy`), where the branch reads texts. A class with fewer
    than shots + queries examples takes no part.

    Sources: Vinyals et al. 2016, arXiv 1606.04080 (episodes); Snell et al. 2017, arXiv 1703.05175
    (centroids); Wang et al. 2019, arXiv 1911.04623 (unit length). With authors as classes and 8 shots,
    Huertas-Tato et al. 2023, arXiv 2310.11081 (STAR).
    """

    branch: str
    label: str = "label"
    source: str | None = None
    ways: int = 5
    shots: int = 1
    queries: int = 15
    episodes: int = 600
    within: str | None = None
    seed: int = 0
    pixels: bool = False
    baselines: tuple[str, ...] = ()

    def __post_init__(self):
        for name in self.baselines:
            lexical.check_similarity(name)
        for key in ("shots", "queries"):
            if getattr(self, key) < 1:
                raise InputError(f"{key}={getattr(self, key)}: give 1 or more")
        for key in ("ways", "episodes"):
            if getattr(self, key) < 2:
                raise InputError(f"{key}={getattr(self, key)}: give 2 or more")

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.branch,)

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.label,) if self.within is None else (self.label, self.within)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        known = chosen(source, self.label)
        episodes, view = list(self.draw(known)), embed.view(self.branch)
        if self.baselines and not isinstance(view, Text):
            raise InputError(f"baselines={self.baselines}: they need texts, and {self.branch!r} reads none")
        z = unit_rows(embed(self.branch, source))
        yield from _summary("", [accuracy(z, *episode) for episode in episodes])
        if self.pixels:
            raw = pixels(embed, self.branch, known)
            yield from _summary("pixels_", [accuracy(raw, *episode) for episode in episodes])
        for name in self.baselines:
            vectors = lexical.vectors(name, seen_texts(source, view, view.shown))
            yield from _summary(f"{name}/", [accuracy(vectors, *episode) for episode in episodes])
        yield "chance", 1 / self.ways

    def draw(self, known: Chosen) -> Iterator[tuple[Int[np.ndarray, "ways shots"], ...]]:
        """The records of each episode: [ways, shots] known ones and [ways, queries] others.

        Raises InputError for too few classes with enough records.
        """
        groups = np.zeros(len(known.records), int)
        if self.within is not None:
            groups = numbered(single(known.source, self.within))[1]
        pools = []
        for group in np.unique(groups):
            members = [
                np.flatnonzero((known.classes == c) & (groups == group))
                for c in np.unique(known.classes[groups == group])
            ]
            members = [records for records in members if len(records) >= self.shots + self.queries]
            if len(members) >= self.ways:
                pools.append(members)
        if not pools:
            raise InputError(
                f"{known.source.name} has no {self.ways} classes of {self.label} with "
                f"{self.shots + self.queries} records each" + (f" in one {self.within}" * bool(self.within))
            )
        rng = np.random.default_rng(self.seed)
        for _ in range(self.episodes):
            pool = pools[rng.integers(len(pools))]
            drawn = [pool[c] for c in rng.choice(len(pool), self.ways, replace=False)]
            each = self.shots + self.queries
            records = np.stack([rng.choice(members, each, replace=False) for members in drawn])
            yield records[:, : self.shots], records[:, self.shots :]


def accuracy(
    z: Float[np.ndarray, "n d"] | Any, shots: Int[np.ndarray, "ways k"], queries: Int[np.ndarray, "ways q"]
) -> float:
    """The share of the queries whose nearest centroid of shots is their own class's; z may be sparse."""
    asked, known = z[queries.ravel()], z[shots.ravel()]
    if isinstance(z, np.ndarray):
        centroids = known.reshape(*shots.shape, -1).mean(axis=1)
        distances = np.sum(centroids**2, axis=1) - 2 * asked @ centroids.T
    else:
        means = np.kron(np.eye(len(shots)), np.full(shots.shape[1], 1 / shots.shape[1]))
        centroids = type(z)(means) @ known
        squares = np.asarray(centroids.multiply(centroids).sum(axis=1)).ravel()
        distances = squares - 2 * (asked @ centroids.T).toarray()
    return float(np.mean(distances.argmin(axis=1) == np.repeat(np.arange(len(shots)), queries.shape[1])))


def _summary(start: str, values: list[float]) -> Iterator[tuple[str, float]]:
    yield f"{start}accuracy", float(np.mean(values))
    yield f"{start}interval_95", float(NORMAL_95 * np.std(values, ddof=1) / np.sqrt(len(values)))
