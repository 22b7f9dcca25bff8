"""Classification by the nearest labelled neighbours, beside the same with raw pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.labelled import chosen, pixels, same_classes, unit_rows
from contrastive_jax.evaluation.nearest import search
from contrastive_jax.evaluation.opening import opened

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class Neighbours:
    """Accuracy of naming each record's class by its k nearest records of `train`, by cosine.

    branch: `name`, or `name.encoder` for what its encoder gives before any head. accuracy: each of the k
    votes with exp(cosine / temperature); majority_vote: each with 1; equal votes go to the class of the
    nearest of them. train: the spec of the labelled records; without it they are the source's own, and a
    record is never its own neighbour. label: the field of the class, a number or a name. train_limit: so
    many labelled records, drawn by `seed`. pixels: also the majority vote of raw pictures by their distance
    (`pixels_l2`), and by the cosine of their difference from the mean picture (`pixels_cosine`).

    Source: Wu et al. 2018, arXiv 1805.01978 (temperature 0.07); Caron et al. 2021, arXiv 2104.14294 (k 20).
    """

    branch: str
    label: str = "label"
    train: str | None = None
    source: str | None = None
    k: int = 20
    temperature: float = 0.07
    train_limit: int | None = None
    seed: int = 0
    pixels: bool = False

    def __post_init__(self):
        if self.k < 1 or self.temperature <= 0:
            raise InputError(f"k={self.k}, temperature={self.temperature}: give k of 1 or more, above 0")
        if self.train_limit is not None and self.train_limit < 1:
            raise InputError(f"train_limit={self.train_limit}: give 1 or more, or None")

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.branch,)

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.label,)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,) if self.train is None else (self.source, self.train)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        test = chosen(source, self.label)
        known = source if self.train is None else opened(self.train)
        train = chosen(known, self.label, self.train_limit, self.seed)
        test = same_classes(train, test)
        apart = (test.records, train.records) if known is source else None

        def vote(queries, corpus, metric, temperature):
            scores, near = search(queries, corpus, self.k, embed.mesh, metric=metric, apart=apart)
            guess = votes(train.classes[near], scores, len(train.names), temperature)
            return guess, float(np.mean(guess == test.classes))

        z = [unit_rows(embed(self.branch, part.source, part.records)) for part in (test, train)]
        guess, accuracy = vote(*z, "dot", self.temperature)
        yield "accuracy", accuracy
        present = np.unique(test.classes)
        yield (
            "balanced_accuracy",
            float(np.mean([np.mean(guess[test.classes == c] == c) for c in present])),
        )
        yield "majority_vote", vote(*z, "dot", None)[1]
        if self.pixels:
            raw = [pixels(embed, self.branch, part) for part in (test, train)]
            centred = [x - raw[1].mean(axis=0) for x in raw]
            yield "pixels_l2", vote(*centred, "euclidean", None)[1]
            yield "pixels_cosine", vote(*map(unit_rows, centred), "dot", None)[1]


def votes(
    classes: Int[np.ndarray, "n k"],
    scores: Float[np.ndarray, "n k"],
    count: int,
    temperature: float | None,
) -> Int[np.ndarray, " n"]:
    """The class with most votes, exp(score / temperature) or 1 each; of equal ones the first to appear.

    A neighbour that is none (score -inf) has no vote.
    """
    there = scores > -np.inf
    if temperature is None:
        weights = there.astype(float)
    else:
        weights = np.exp((scores - scores[:, :1]).astype(np.float64) / temperature)
    table = np.zeros((len(classes), count))
    np.add.at(table, (np.arange(len(classes))[:, None], classes), weights * there)
    best = np.isclose(table, table.max(axis=1, keepdims=True), rtol=1e-9, atol=0)
    return classes[
        np.arange(len(classes)), np.argmax(np.take_along_axis(best, classes, axis=1) & there, axis=1)
    ]
