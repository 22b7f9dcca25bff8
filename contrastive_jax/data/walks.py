"""Walks over a number of things: each once an epoch, in an order that takes no memory."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np
from grain.experimental import index_shuffle

from contrastive_jax.configuration import nearest
from contrastive_jax.data.records import comparable
from contrastive_jax.data.selection import fields_of
from contrastive_jax.data.streams import Streams
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Int64

    from contrastive_jax.data.records import Source

ORDERS = (1, 2)
"""The versions of `Shuffles`; a run goes on with the one that it began with, and new runs have the last."""

_FEW = 512  # things; Grain's shuffle draws among 2^16 until it hits one, 10 ms for each of two things


@dataclasses.dataclass(frozen=True)
class Shuffles:
    """Orders of a number of things, another one for each epoch and part, in no memory.

    Of 512 things and more the seed, the part and the epoch are folded to the 32 bits that Grain's shuffle
    takes. Version 1 added seed and epoch, so that epoch 1 of seed 0 is epoch 0 of seed 1, and had one order
    for all parts of one length.
    """

    seed: int
    version: int = ORDERS[-1]

    def __call__(
        self, places: Int64[np.ndarray, " b"], epochs: Int64[np.ndarray, " b"], count: int, part: int = 0
    ) -> Int64[np.ndarray, " b"]:
        """What stands at some places of the orders that some epochs have of `count` things."""
        part, distinct = part if self.version > 1 else 0, np.unique(epochs).tolist()
        if count < _FEW:
            streams = Streams(self.seed % 2**63, "order")
            orders = {epoch: streams.at(epoch, part).permutation(count) for epoch in distinct}
            return np.array([orders[e][p] for e, p in zip(epochs.tolist(), places.tolist())], np.int64)
        seeds = {epoch: self._folded(epoch, part) for epoch in distinct}
        return np.array(
            [
                # As grain.MapDataset.shuffle has it, a hundred times faster than through its records.
                index_shuffle(place, max_index=count - 1, seed=seeds[epoch], rounds=4)
                for epoch, place in zip(epochs.tolist(), places.tolist())
            ],
            np.int64,
        )

    def _folded(self, epoch: int, part: int) -> int:
        if self.version == 1:
            return (self.seed + epoch) % 2**32
        digest = hashlib.sha256(f"order {self.seed} {part} {epoch}".encode()).digest()
        return int.from_bytes(digest[:4], "little")


@dataclasses.dataclass(frozen=True)
class Walk:
    """Walks over `count` things in an O(1)-memory permutation an epoch."""

    count: int
    batch_size: int
    shuffles: Shuffles
    repeat: bool
    noun: str
    asked: str = ""  # what asks for so many things a batch; by default the batch's size
    part: int = 0

    def __post_init__(self) -> None:
        if self.batch_size > self.count and not self.repeat:
            asked = self.asked or f"batch_size={self.batch_size}"
            raise InputError(
                f"{asked} is more than the {self.count} {self.noun}; "
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
        return epochs, self.shuffles(places, epochs, self.count, self.part)


def column(source: Source, field: str, key: str) -> np.ndarray:
    """A field of all records, as an array to compare, null being an empty text; `key` is the sampler's key
    that names it.

    Raises:
        InputError: the source has no such field, or it holds something else than texts and numbers.
    """
    try:
        values = source.column(field)
    except KeyError:
        raise InputError(
            f"sampler.{key}={field!r} is no field of {source.name}; {nearest(field, fields_of(source))}"
        ) from None
    if isinstance(values, list):
        values = ["" if value is None else value for value in values]
        odd = next((value for value in values if isinstance(value, (list, dict, bytes, np.ndarray))), None)
        if odd is not None:
            raise InputError(
                f"sampler.{key}={field!r} holds a {type(odd).__name__} in {source.name}: "
                "name a field of texts or numbers"
            )
    return comparable(values)
