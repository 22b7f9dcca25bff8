"""Texts whose words stand in another order, the same ones whatever model is asked."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.configuration import nearest
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views.orders import ORDERS, reordered, swapped
from contrastive_jax.data.views.words import core
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from contrastive_jax.data.records import Source

PERTURBATIONS = ("swap", *ORDERS)
_OF_KINDS = ("swap", "listed", "unlisted")


@dataclass(frozen=True)
class Perturbation:
    """One way to put a text's words in another order; `kinds` are words that can stand for each other, such
    as colours, which `swap`, `listed` and `unlisted` need."""

    how: str
    kinds: tuple[tuple[str, ...], ...] = ()
    seed: int = 0

    def __call__(self, text: str) -> str | None:
        """The text with the same words in another order; None where there is none."""
        words = text.split()
        if not any(len(set(pool)) > 1 for pool in self._pools(words)):
            return None
        drawn = [self.seed, zlib.crc32(self.how.encode()), zlib.crc32(text.encode())]
        rng, kinds = np.random.default_rng(drawn), self._kinds
        try:
            changed = (
                swapped(words, kinds, rng) if self.how == "swap" else reordered(words, self.how, rng, kinds)
            )
        except BrokenRecord:
            return None
        return " ".join(changed)

    @property
    def _kinds(self) -> list[frozenset[str]]:
        return [frozenset(word.casefold() for word in kind) for kind in self.kinds]

    def _pools(self, words: list[str]) -> list[list]:
        """What changes places with each other; where nothing can, `reordered` and `swapped` take others."""
        runs = [tuple(words[start : start + 3]) for start in range(0, len(words), 3)]
        if self.how == "trigrams":
            return [runs]
        if self.how == "within_trigrams":
            return runs
        if self.how in ("listed", "unlisted"):
            listed = [any(core(word) in kind for kind in self._kinds) for word in words]
            return [[word for word, of in zip(words, listed) if of == (self.how == "listed")]]
        if self.how == "swap":
            return [[found for found in map(core, words) if found in kind] for kind in self._kinds]
        return [words]


def check_perturbations(names: Sequence[str], kinds: Sequence[Sequence[str]]) -> None:
    """Raises InputError for a name that is not in PERTURBATIONS, or that needs kinds where there are none."""
    for name in names:
        if name not in PERTURBATIONS:
            raise InputError(f"perturbations={name!r}: unknown; {nearest(name, PERTURBATIONS)}")
        if name in _OF_KINDS and not kinds:
            raise InputError(
                f"perturbations={name!r}: which words? give kinds, such as (('red', 'blue'), ('cat', 'dog'))"
            )


@dataclass(frozen=True)
class Reordered:
    """The records of a source with another order of the words in `field`, where there is one."""

    source: Source
    field: str
    perturbation: Perturbation

    @property
    def name(self) -> str:
        return self.source.name

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.source[index]
        if self.field not in record:
            return record
        return {**record, self.field: self._changed(record[self.field])}

    def column(self, name: str) -> Any:
        values = self.source.column(name)
        return [self._changed(value) for value in values] if name == self.field else values

    def _changed(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._changed(item) for item in value]
        return (self.perturbation(value) or value) if isinstance(value, str) else value
