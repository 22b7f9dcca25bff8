"""Zero-shot classification: each class is the mean of its prompts' embeddings, each of unit length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.records import Source, comparable
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import labels, single
from contrastive_jax.evaluation.nearest import nearest_neighbours
from contrastive_jax.evaluation.prompts import called, check_templates, prompted

if TYPE_CHECKING:
    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class ZeroShot:
    """Accuracy of naming the class of each example from prompts alone, as CLIP does.

    examples, prompts: branches; label: the record's field with the class, its name or a number; names: the
    field of what prompts call the class (None: the label itself), the first of a list, that of the class's
    first record; templates: prompts with {} for the name; ignore: labels of no class; at_least: smaller
    classes are left out. Beside the accuracy stands that of always naming the largest class (`majority`),
    and the mean over classes (`balanced_accuracy`).

    Source: Radford et al. 2021, arXiv 2103.00020.
    """

    examples: str
    prompts: str
    label: str
    templates: tuple[str, ...] = ("{}",)
    ignore: tuple[str, ...] = ()
    at_least: int = 1
    source: str | None = None
    names: str | None = None

    def __post_init__(self):
        check_templates(self.templates)

    @property
    def branches(self) -> tuple[str, ...]:
        return self.examples, self.prompts

    @property
    def seen(self) -> tuple[str, ...]:
        return (self.examples,)

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.label,) if self.names is None else (self.label, self.names)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        read = single if "" in self.ignore else labels
        given = comparable(read(source, self.label))
        names, counts = np.unique(given, return_counts=True)
        names = [n for n, count in zip(names, counts) if count >= self.at_least and str(n) not in self.ignore]
        if len(names) < 2:
            raise InputError(
                f"{source.name} has {len(names)} classes of {self.label} with {self.at_least} records"
            )
        indices = np.flatnonzero(np.isin(given, names))
        truth = np.searchsorted(names, given[indices])
        words = called(source, given, names, self.names)
        classes = prompted(embed, self.prompts, words, self.templates)
        guess = nearest_neighbours(embed(self.examples, source, indices), classes, 1, embed.mesh)[:, 0]
        right = guess == truth
        yield "accuracy", float(right.mean())
        yield "balanced_accuracy", float(np.mean([right[truth == c].mean() for c in range(len(names))]))
        yield "majority", float(np.bincount(truth).max() / len(truth))
        yield "classes", len(names)
