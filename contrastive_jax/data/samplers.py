"""Which records make the batch of a step: pure functions of the seed and the step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.data.mixtures import Homogeneous, Mixture
from contrastive_jax.data.streams import Streams
from contrastive_jax.data.walks import ORDERS, Shuffles, Walk, column
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

    from contrastive_jax.data.records import Source


@dataclasses.dataclass(frozen=True)
class Permutation:
    """Every record once an epoch, in an order of its own each epoch; the remainder is dropped.

    Args:
        repeat: allow a batch larger than the source; it then holds records more than once.
    """

    repeat: bool = False
    members = 1

    def bind(self, source: Source, batch_size: int, seed: int, order: int = ORDERS[-1]) -> Draw:
        """The draws from one source, in the orders of a version of `walks.Shuffles`.

        Raises:
            InputError: `batch_size` is larger than the source and `repeat` is off.
        """
        shuffles = Shuffles(seed, order)
        return Draw(Walk(len(source), batch_size, shuffles, self.repeat, f"records of {source.name}"))


@dataclasses.dataclass(frozen=True)
class Groups:
    """Every group once an epoch, and of each group `members` different records.

    With one member this makes batches of unique keys: no two rows have the same value of the field (but
    for `repeat`).

    Args:
        group: the field of a record that makes a group: records of equal value belong together.
        members: records drawn of a group, by (seed, epoch, group); of a smaller group some come again.
        repeat: allow a batch larger than the number of groups.
        unique: whether the groups of a batch are all different. Without it there is a row for every record
            an epoch, of members of its group, in an order that knows no groups: so two rows of a batch can
            have one group, and are then taken for negatives of each other.
    """

    group: str = "character"
    members: int = 1
    repeat: bool = False
    unique: bool = True

    def __post_init__(self) -> None:
        if self.members < 1:
            raise InputError(f"sampler.members={self.members} must be at least 1")

    def bind(self, source: Source, batch_size: int, seed: int, order: int = ORDERS[-1]) -> GroupDraw:
        """The draws from one source.

        Raises:
            InputError: the source has no such field, or `batch_size` is larger than the number of
                groups, or without `unique` of records, and `repeat` is off.
        """
        shuffles = Shuffles(seed, order)
        if self.unique:
            return _group_draw(self, source, batch_size, shuffles)
        grouped, sizes, inverse = _by_group(source, self.group)
        walk = Walk(len(source), batch_size, shuffles, self.repeat, f"records of {source.name}")
        return GroupDraw(walk, grouped, sizes, self.members, inverse)


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

    def bind(self, source: Source, batch_size: int, seed: int, order: int = ORDERS[-1]) -> IdentityDraw:
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
        identities = batch_size // self.members
        asked = f"batch_size={batch_size} / sampler.members={self.members}, {identities} identities,"
        groups = _group_draw(self, source, identities, Shuffles(seed, order), asked)
        return IdentityDraw(groups, batch_size, self.members)


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Records drawn with replacement, each row by itself: often in proportion to a weight.

    So there are no epochs, a record can come twice in a batch, and a batch may be larger than the source.

    Args:
        weight: the field that holds a record's weight, a number of 0 or more.
        balance: or the field whose values are to come equally often: the weight is 1 / how many records have
            the same value.
    """

    weight: str = ""
    balance: str = ""

    def __post_init__(self) -> None:
        if bool(self.weight) == bool(self.balance):
            raise InputError(
                f"sampler.weight={self.weight!r}, sampler.balance={self.balance!r}: name a field of weights, "
                "or one whose values are to come equally often"
            )

    def bind(self, source: Source, batch_size: int, seed: int, order: int = ORDERS[-1]) -> WeightedDraw:
        """The draws from one source, the same in every version of the order.

        Raises:
            InputError: the source has no such field, or it holds something else than weights.
        """
        if self.balance:
            labels = column(source, self.balance, "balance")
            _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
            return WeightedDraw(np.cumsum(1 / sizes[inverse]), batch_size, seed)
        values = column(source, self.weight, "weight").tolist()
        weights = np.array([_weight(value) for value in values])
        bad = np.flatnonzero(~((weights >= 0) & (weights < np.inf)))
        if len(bad):
            raise InputError(
                f"sampler.weight={self.weight!r}: record {bad[0]} of {source.name} has {values[bad[0]]!r}, "
                "and a weight is a number of 0 or more"
            )
        if not weights.any():
            raise InputError(f"sampler.weight={self.weight!r}: all weights of {source.name} are 0")
        return WeightedDraw(np.cumsum(weights), batch_size, seed)


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
        groups: Int64[np.ndarray, " N"] | None = None,
    ) -> None:
        """groups: of what the walk goes through; None where it goes through the groups themselves."""
        self._walk, self._order, self._sizes, self._members = walk, order, sizes, members
        self._starts, self._groups = np.cumsum(sizes) - sizes, groups

    def __call__(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "b members"]:
        """The record indices of a step, int64 [rows, members]: of all rows of the batch, or of some."""
        epochs, walked = self._walk(step, rows)
        groups = walked if self._groups is None else self._groups[walked]
        streams = Streams(self._walk.shuffles.seed, "sampler")
        chosen = [
            _choose(streams.at(epoch, place), size, self._members)
            for epoch, place, size in zip(epochs.tolist(), walked.tolist(), self._sizes[groups].tolist())
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


@dataclasses.dataclass(frozen=True)
class WeightedDraw:
    """`draw(step)` gives the record indices of a batch, by bisection of the sums of the weights."""

    sums: Float64[np.ndarray, " N"]  # of the weights up to each record
    batch_size: int
    seed: int

    def __call__(self, step: int, rows: slice = slice(None)) -> Int64[np.ndarray, "b 1"]:
        """The record indices of a step, int64 [rows, 1]: of all rows of the batch, or of some."""
        streams, numbers = Streams(self.seed, "weighted"), np.arange(self.batch_size)[rows].tolist()
        drawn = np.array([streams.at(step, row).random() for row in numbers])
        indices = np.searchsorted(self.sums, drawn * self.sums[-1], side="right")
        # A product that is rounded up to the whole sum means the last record of any weight.
        return np.minimum(indices, np.searchsorted(self.sums, self.sums[-1]))[:, None]


def _group_draw(
    sampler: Groups | Identities, source: Source, groups: int, shuffles: Shuffles, asked: str = ""
) -> GroupDraw:
    """The draws of `groups` groups a step; `asked` says in an error what asks for so many."""
    order, sizes, _ = _by_group(source, sampler.group)
    noun = f"values of {sampler.group} in {source.name}"
    walk = Walk(len(sizes), groups, shuffles, sampler.repeat, noun, asked)
    return GroupDraw(walk, order, sizes, sampler.members)


def _by_group(source: Source, field: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The records in the order of their groups, the groups' sizes, and the group of each record."""
    _, inverse, sizes = np.unique(column(source, field, "group"), return_inverse=True, return_counts=True)
    return np.argsort(inverse, kind="stable"), sizes, inverse


def _weight(value: object) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


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
    "weighted": Weighted,
}
