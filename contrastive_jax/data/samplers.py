"""Which records make the batch of a step: pure functions of the seed and the step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.mixtures import Homogeneous, Mixture
from contrastive_jax.data.streams import Streams
from contrastive_jax.data.walks import Walk, column
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
        return Draw(Walk(len(source), batch_size, seed, self.repeat, f"records of {source.name}"))


@dataclasses.dataclass(frozen=True)
class Groups:
    """Every group once an epoch, and of each group `members` different records.

    With one member this makes batches of unique keys: no two rows have the same value of the field (but
    for `repeat`).

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
        labels = column(source, self.group, "group")
        _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        walk = Walk(len(sizes), batch_size, seed, self.repeat, f"values of {self.group} in {source.name}")
        return GroupDraw(walk, np.argsort(inverse, kind="stable"), sizes, self.members)


@dataclasses.dataclass(frozen=True)
class Identities:
    """P identities, and of each K records as rows side by side: P x K rows (Hermans et al. 2017, 1703.07737).

    P is `batch_size` / `members`. Every identity comes once an epoch.

    Args:
        group: the field that says who it is: records of equal value are of one identity.
        members: K, rows of an identity, different records; of a smaller group some come again.
        repeat: allow more identities a batch than there are.
    """

    group: str = "label"
    members: int = 4
    repeat: bool = False

    def __post_init__(self) -> None:
        if self.members < 1:
            raise InputError(f"sampler.members={self.members} must be at least 1")

    def bind(self, source: Source, batch_size: int, seed: int) -> IdentityDraw:
        """The draws from one source.

        Raises:
            InputError: the source has no such field, `batch_size` is no multiple of `members`, or there are
                too few identities and `repeat` is off.
        """
        if batch_size % self.members:
            raise InputError(
                f"batch_size={batch_size} is no multiple of sampler.members={self.members}: a batch holds "
                f"members rows of each identity"
            )
        groups = Groups(self.group, self.members, self.repeat)
        return IdentityDraw(groups.bind(source, batch_size // self.members, seed), batch_size, self.members)


@dataclasses.dataclass(frozen=True)
class Draw:
    """`draw(step)` gives the record indices of a batch."""

    walk: Walk

    def __call__(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "b 1"]:
        """The record indices of a step, int64 [rows, 1]: of all rows of the batch, or of some."""
        return self.walk(step, rows)[1][:, None]


class GroupDraw:
    """`draw(step)` gives the record indices of a batch, the members of a group side by side."""

    def __init__(
        self,
        walk: Walk,
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


@dataclasses.dataclass(frozen=True)
class IdentityDraw:
    """`draw(step)` gives the record indices of a batch, the rows of an identity one after another."""

    groups: GroupDraw
    batch_size: int
    members: int

    def __call__(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "b 1"]:
        """The record indices of a step, int64 [rows, 1]: of all rows of the batch, or of some."""
        row = np.arange(self.batch_size)[rows]
        identities, place = np.unique(row // self.members, return_inverse=True)
        return self.groups(step, identities)[place, row % self.members][:, None]


def _choose(rng: np.random.Generator, size: int, members: int) -> Int64[np.ndarray, " members"]:
    if members == 1:
        return np.array([int(rng.random() * size)])
    # Different ones as long as there are any, then the same ones again.
    return np.resize(rng.choice(size, min(size, members), replace=False), members)


KINDS = {
    "permutation": Permutation,
    "groups": Groups,
    "identities": Identities,
    "mixture": Mixture,
    "homogeneous": Homogeneous,
}
