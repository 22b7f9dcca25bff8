"""Batches from the parts of a source by weights: mixed in every batch, or one part a batch."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.walks import ORDERS, Shuffles, Walk, column
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float64, Int64

    from contrastive_jax.data.records import Source

_TURNS = 1 << 14  # places of the schedule; shares are exact to about one in as many


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Rows of every batch from all parts, each part by its weight.

    Each part is walked through by itself, every record once an epoch of that part, so a small part of much
    weight comes again sooner. Where a part begins anew, a record can come twice in a batch. The number of
    rows of a part differs from its share of the batch by at most the number of parts.

    Args:
        field: what parts the records: equal values are one part. ``source`` of a concatenation numbers its
            sources.
        weights: of each part, by the sorted values of the field; they need not sum to one.
        alpha: without `weights`, a part of n records has the weight n^alpha: 1 as they come, 0 all parts
            alike, 0.3 to 0.7 in between (Conneau et al. 2020, arXiv 1911.02116).
        repeat: allow a part that is smaller than its share of a batch.
    """

    field: str = "source"
    weights: tuple[float, ...] | None = None
    alpha: float = 1.0
    repeat: bool = False

    def __post_init__(self) -> None:
        _check(self.weights, self.alpha)

    def bind(self, source: Source, batch_size: int, seed: int, order: int = ORDERS[-1]) -> MixtureDraw:
        """The draws from one source.

        Raises:
            InputError: the source has no such field, there are not as many weights as parts, or a part is
                smaller than its share of a batch and `repeat` is off.
        """
        parts = Parts(source, self.field)
        shares = _shares(parts, self.weights, self.alpha)
        for name, size, share in zip(parts.names, parts.sizes.tolist(), shares.tolist()):
            if not self.repeat and math.ceil(batch_size * share) > size:
                raise InputError(
                    f"sampler: {self.field}={name!r} has {size} records, and its share of a batch is "
                    f"{batch_size * share:.1f}; lower batch_size or its weight, or set repeat=True"
                )
        return MixtureDraw(parts, Schedule(shares), batch_size, Shuffles(seed, order))


@dataclasses.dataclass(frozen=True)
class Homogeneous:
    """Every batch from one part alone, the parts taking turns by their weights.

    So no example is told from its negatives by where it comes from. Each part is walked through as
    `permutation` does it.

    Args:
        field: what parts the records, as in `Mixture`.
        weights: of each part, as in `Mixture`: shares of the batches.
        alpha: as in `Mixture`.
        repeat: allow a part smaller than a batch.
    """

    field: str = "source"
    weights: tuple[float, ...] | None = None
    alpha: float = 1.0
    repeat: bool = False

    def __post_init__(self) -> None:
        _check(self.weights, self.alpha)

    def bind(self, source: Source, batch_size: int, seed: int, order: int = ORDERS[-1]) -> HomogeneousDraw:
        """The draws from one source.

        Raises:
            InputError: the source has no such field, there are not as many weights as parts, or a part that
                has any weight is smaller than a batch and `repeat` is off.
        """
        parts = Parts(source, self.field)
        shares = _shares(parts, self.weights, self.alpha)
        walks = [
            Walk(
                *(size, batch_size, Shuffles(seed, order), self.repeat or share == 0),
                noun=f"records of {self.field}={name!r}",
                part=part,
            )
            for part, (name, size, share) in enumerate(
                zip(parts.names, parts.sizes.tolist(), shares.tolist())
            )
        ]
        return HomogeneousDraw(parts, Schedule(shares), walks)


class Parts:
    """The records of each part; parts that lie one after another take no memory."""

    def __init__(self, source: Source, field: str) -> None:
        labels = column(source, field, "field")
        names, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        self.names, self.sizes = names.tolist(), sizes
        self._starts = np.cumsum(sizes) - sizes
        together = (np.diff(inverse) >= 0).all()
        self._order = None if together else np.argsort(inverse, kind="stable")

    def records(
        self, part: Int64[np.ndarray, " b"], place: Int64[np.ndarray, " b"]
    ) -> Int64[np.ndarray, " b"]:
        """The numbers of the records at some places of some parts."""
        at = self._starts[part] + place
        return at if self._order is None else self._order[at]


class Schedule:
    """Whose turn it is: parts spread evenly by their shares over places that repeat for ever."""

    def __init__(self, shares: Float64[np.ndarray, " P"]) -> None:
        # At least one turn for what has any weight; the places are as many as all turns together.
        self._turns = np.maximum(np.round(shares * _TURNS), shares > 0).astype(np.int64)
        when = np.concatenate([(np.arange(count) + 0.5) / count for count in self._turns.tolist() if count])
        parts = np.repeat(np.arange(len(shares)), self._turns)
        order = np.argsort(when, kind="stable")
        self._parts = parts[order]
        self._earlier = np.concatenate([np.arange(count) for count in self._turns.tolist()])[order]

    def __call__(self, places: Int64[np.ndarray, " b"]) -> tuple[np.ndarray, np.ndarray]:
        """(the part, how often it had its turn before) at some places, int64 [b] each."""
        rounds, place = np.divmod(places, len(self._parts))
        part = self._parts[place]
        return part, rounds * self._turns[part] + self._earlier[place]


@dataclasses.dataclass(frozen=True)
class MixtureDraw:
    """`draw(step)` gives the record indices of a batch."""

    parts: Parts
    schedule: Schedule
    batch_size: int
    shuffles: Shuffles

    def __call__(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "b 1"]:
        """The record indices of a step, int64 [rows, 1]: of all rows of the batch, or of some."""
        part, turn = self.schedule(step * self.batch_size + np.arange(self.batch_size)[rows])
        epoch, place = np.divmod(turn, self.parts.sizes[part])
        drawn = np.empty_like(place)
        for number in np.unique(part).tolist():
            of = part == number
            drawn[of] = self.shuffles(place[of], epoch[of], int(self.parts.sizes[number]), number)
        return self.parts.records(part, drawn)[:, None]


@dataclasses.dataclass(frozen=True)
class HomogeneousDraw:
    """`draw(step)` gives the record indices of a batch, all of one part."""

    parts: Parts
    schedule: Schedule
    walks: Sequence[Walk]

    def __call__(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "b 1"]:
        """The record indices of a step, int64 [rows, 1]: of all rows of the batch, or of some."""
        part, turn = self.schedule(np.array([step]))
        place = self.walks[int(part[0])](int(turn[0]), rows)[1]
        return self.parts.records(np.broadcast_to(part, place.shape), place)[:, None]


def _check(weights: tuple[float, ...] | None, alpha: float) -> None:
    if weights is not None and (min(weights, default=-1.0) < 0 or sum(weights) == 0):
        raise InputError(f"sampler.weights={weights} must be numbers of 0 and more, one of them positive")
    if alpha < 0:
        raise InputError(f"sampler.alpha={alpha} must be 0 or more")


def _shares(parts: Parts, weights: tuple[float, ...] | None, alpha: float) -> Float64[np.ndarray, " P"]:
    if weights is None:
        weights = (parts.sizes / parts.sizes.max()) ** alpha
    if len(weights) != len(parts.names):
        known = ", ".join(map(repr, parts.names[:8]))
        raise InputError(
            f"sampler.weights={tuple(weights)} has {len(weights)} numbers, but there are "
            f"{len(parts.names)} parts: {known}"
        )
    return np.asarray(weights, float) / sum(weights)
