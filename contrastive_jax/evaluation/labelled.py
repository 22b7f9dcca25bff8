"""Labelled records as probes see them: features and whole numbers for the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from contrastive_jax.data.examples import evaluate_view
from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import column, numbered

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


class Chosen(NamedTuple):
    """Records of a source with the number of each one's class; `names` are the classes."""

    source: Source
    records: Int[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]
    names: list[Any]

    def some(self, places: Int[np.ndarray, " m"]) -> Chosen:
        return self._replace(records=self.records[places], classes=self.classes[places])


def chosen(source: Source, label: str, limit: int | None = None, seed: int = 0) -> Chosen:
    """All records of a source, or `limit` of them, drawn without repetition and in the source's order.

    Raises InputError for a source without that field, or with fewer than two classes.
    """
    names, classes = numbered(column(source, label))
    if len(names) < 2:
        raise InputError(f"{source.name} has {len(names)} classes of {label}: give two or more")
    records = np.arange(len(source))
    if limit is not None and limit < len(records):
        records = np.sort(np.random.default_rng(seed).choice(len(records), limit, replace=False))
    return Chosen(source, records, classes[records], names)


def same_classes(train: Chosen, test: Chosen) -> Chosen:
    """`test` with its classes numbered as those of `train`; InputError for one that `train` lacks."""
    place = {name: number for number, name in enumerate(train.names)}
    unknown = [name for name in test.names if name not in place]
    if unknown:
        raise InputError(f"{test.source.name} has the class {unknown[0]!r}, which {train.source.name} lacks")
    numbers = np.array([place[name] for name in test.names])
    return test._replace(classes=numbers[test.classes], names=train.names)


def pixels(embed: Embedder, branch: str, records: Chosen) -> Float[np.ndarray, "n p"]:
    """What the branch's view makes of the records, flat, each value in 0..1."""
    shown = evaluate_view(records.source, embed.view(branch), records.records)
    return shown.reshape(len(shown), -1).astype(np.float32) / 255


def unit_rows(z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """z / |z|; a zero stays one."""
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
