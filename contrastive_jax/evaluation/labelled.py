"""Labelled records as probes see them: features and whole numbers for the labels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from contrastive_jax.data.examples import evaluate_view
from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import labels, numbered

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


class Chosen(NamedTuple):
    """Records of a source with the number of each one's class; `names` are the classes."""

    source: Source
    records: Int[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"]
    names: list[Any]


def chosen(source: Source, label: str, limit: int | None = None, seed: int = 0) -> Chosen:
    """All records of a source, or `limit` of them, drawn without repetition and in the source's order.

    Raises InputError for a source without that field, a record that lacks it, or fewer than two classes.
    """
    names, classes = numbered(labels(source, label))
    records = np.arange(len(source))
    if limit is not None and limit < len(records):
        records = np.sort(np.random.default_rng(seed).choice(len(records), limit, replace=False))
    if (count := len(np.unique(classes[records]))) < 2:
        some = "" if len(records) == len(source) else f" among the {limit} records that are drawn"
        raise InputError(f"{source.name} has {count} classes of {label}{some}: give two or more")
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
    """The raw pictures that the branch's view sees, flat, each value in 0..1, whatever it makes of levels.

    Raises InputError for a view of texts.
    """
    view = embed.view(branch)
    if getattr(view, "std", ()):
        view = dataclasses.replace(view, mean=(), std=())
    if view.structure().dtype != np.uint8:
        raise InputError(f"pixels=True: the branch {branch!r} reads no pictures")
    shown = evaluate_view(records.source, view, records.records)
    return shown.reshape(len(shown), -1).astype(np.float32) / 255


def unit_rows(z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """z / |z|; a zero stays one."""
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
