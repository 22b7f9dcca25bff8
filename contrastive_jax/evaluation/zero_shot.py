"""Zero-shot classification: each class is the mean of its prompts' embeddings, each of unit length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import column, labels, single
from contrastive_jax.evaluation.labelled import unit_rows
from contrastive_jax.evaluation.nearest import nearest_neighbours

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
        if not self.templates or any("{}" not in template for template in self.templates):
            raise InputError(f"templates={self.templates}: give texts with {{}} in each")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.examples, self.prompts

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.label,) if self.names is None else (self.label, self.names)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        read = single if "" in self.ignore else labels
        given = np.asarray(read(source, self.label))
        names, counts = np.unique(given, return_counts=True)
        names = [n for n, count in zip(names, counts) if count >= self.at_least and str(n) not in self.ignore]
        if len(names) < 2:
            raise InputError(
                f"{source.name} has {len(names)} classes of {self.label} with {self.at_least} records"
            )
        indices = np.flatnonzero(np.isin(given, names))
        truth = np.searchsorted(names, given[indices])
        called = self._called(source, given, names)
        prompts = [template.replace("{}", name) for name in called for template in self.templates]
        each = unit_rows(embed.texts(self.prompts, prompts))
        classes = unit_rows(each.reshape(len(names), len(self.templates), -1).mean(axis=1))
        guess = nearest_neighbours(embed(self.examples, source, indices), classes, 1, embed.mesh)[:, 0]
        right = guess == truth
        yield "accuracy", float(right.mean())
        yield "balanced_accuracy", float(np.mean([right[truth == c].mean() for c in range(len(names))]))
        yield "majority", float(np.bincount(truth).max() / len(truth))
        yield "classes", len(names)

    def _called(self, source: Source, given: np.ndarray, names: list) -> list[str]:
        """What prompts call each class."""
        if self.names is None:
            return [str(name) for name in names]
        words = column(source, self.names)
        found = [words[int(np.flatnonzero(given == name)[0])] for name in names]
        return [str(value if isinstance(value, str) or not len(value) else value[0]) for value in found]
