"""Which records make the batch of a step: pure functions of the seed and the step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from grain.experimental import index_shuffle

from contrastive_jax.data.streams import Streams
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Int64

    from contrastive_jax.data.records import Source


@dataclasses.dataclass(frozen=True)
class Permutation:
    """Every record once an epoch, in an order of its own each epoch; the remainder is dropped.

    Args:
        repeat: allow a batch larger than the source; it then holds records more than once.
    """

    repeat: bool = False
    members = 1

    def bind(self, source: Source, batch_size: int, seed: int) -> Draw:
        """The draws from one source.

        Raises:
            InputError: `batch_size` is larger than the source and `repeat` is off.
        """
        return Draw(_Walk(len(source), batch_size, seed, self.repeat, f"records of {source.name}"))


@dataclasses.dataclass(frozen=True)
class Groups:
    """Every group once an epoch, and of each group `members` different records.

    Args:
        group: the field of a record that makes a group: records of equal value belong together.
        members: records drawn of a group, by (seed, epoch, group); of a smaller group some come again.
        repeat: allow a batch larger than the number of groups.
    """

    group: str = "character"
    members: int = 1
    repeat: bool = False

    def __post_init__(self) -> None:
        if self.members < 1:
            raise InputError(f"sampler.members={self.members} must be at least 1")

    def bind(self, source: Source, batch_size: int, seed: int) -> GroupDraw:
        """The draws from one source.

        Raises:
            InputError: the source has no such field, or `batch_size` is larger than the number of
                groups and `repeat` is off.
        """
        try:
            labels = np.asarray(source.column(self.group))
        except KeyError:
            raise InputError(f"sampler.group={self.group!r} is no field of {source.name}") from None
        _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        walk = _Walk(len(sizes), batch_size, seed, self.repeat, f"values of {self.group} in {source.name}")
        return GroupDraw(walk, np.argsort(inverse, kind="stable"), sizes, self.members)


@dataclasses.dataclass(frozen=True)
class _Walk:
    """Walks over `count` things in an O(1)-memory permutation an epoch."""

    count: int
    batch_size: int
    seed: int
    repeat: bool
    noun: str

    def __post_init__(self) -> None:
        if self.batch_size > self.count and not self.repeat:
            raise InputError(
                f"batch_size={self.batch_size} is more than the {self.count} {self.noun}; "
                f"lower batch_size or set the sampler's repeat=True"
            )

    def __call__(self, step: int, rows: slice) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
        """The epoch and the thing of each row of a step's batch."""
        row = np.arange(self.batch_size, dtype=np.int64)[rows]
        if self.batch_size <= self.count:
            epoch, step = divmod(step, self.count // self.batch_size)
            epochs, places = np.full_like(row, epoch), step * self.batch_size + row
        else:
            epochs, places = np.divmod(step * self.batch_size + row, self.count)
        return epochs, np.array(
            [
                # As grain.MapDataset.shuffle has it, a hundred times faster than through its records.
                index_shuffle(place, max_index=self.count - 1, seed=(self.seed + epoch) % 2**32, rounds=4)
                for epoch, place in zip(epochs.tolist(), places.tolist())
            ],
            np.int64,
        )


@dataclasses.dataclass(frozen=True)
class Draw:
    """`draw(step)` gives the record indices of a batch."""

    walk: _Walk

    def __call__(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "b 1"]:
        """The record indices of a step, int64 [rows, 1]: of all rows of the batch, or of some."""
        return self.walk(step, rows)[1][:, None]


class GroupDraw:
    """`draw(step)` gives the record indices of a batch, the members of a group side by side."""

    def __init__(
        self,
        walk: _Walk,
        order: Int64[np.ndarray, " N"],
        sizes: Int64[np.ndarray, " G"],
        members: int,
    ) -> None:
        self._walk, self._order, self._sizes, self._members = walk, order, sizes, members
        self._starts = np.cumsum(sizes) - sizes

    def __call__(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "b members"]:
        """The record indices of a step, int64 [rows, members]: of all rows of the batch, or of some."""
        epochs, groups = self._walk(step, rows)
        streams = Streams(self._walk.seed, "sampler")
        chosen = [
            _choose(streams.at(epoch, group), size, self._members)
            for epoch, group, size in zip(epochs.tolist(), groups.tolist(), self._sizes[groups].tolist())
        ]
        return self._order[self._starts[groups][:, None] + np.stack(chosen)]


def _choose(rng: np.random.Generator, size: int, members: int) -> Int64[np.ndarray, " members"]:
    if members == 1:
        return np.array([int(rng.random() * size)])
    # Different ones as long as there are any, then the same ones again.
    return np.resize(rng.choice(size, min(size, members), replace=False), members)


KINDS = {"permutation": Permutation, "groups": Groups}
