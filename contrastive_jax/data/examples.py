"""Examples: what the views make of the records that a sampler drew for a row of a step."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import sys
import zlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from contrastive_jax.data.faults import naming
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.streams import Streams
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import jax
    from jaxtyping import Int64, Shaped

    from contrastive_jax.data.records import Source

    Rows = slice | Int64[np.ndarray, " b"]

_log = logging.getLogger(__name__)
_TRIES = 16  # successive broken records of a row, after which the source as a whole is to blame


class View(Protocol):
    """An array made of one of the records that a sampler drew for a row."""

    member: int
    together: str  # the name of the random numbers that it shares with other views; '' for its own

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example."""
        ...

    def __call__(self, record: dict[str, Any], rng: np.random.Generator, train: bool) -> np.ndarray:
        """One example; at training a view may give several, with an axis of their own first."""
        ...


class Sampler(Protocol):
    """The record indices of a step's batch, or of some rows of it."""

    def __call__(self, step: int, rows: Rows = slice(None)) -> Int64[np.ndarray, "b members"]: ...


@dataclasses.dataclass(frozen=True)
class Steps:
    """The batch of every step, or the pieces of it, made when asked for: a pure function of seed and step."""

    source: Source
    sampler: Sampler
    views: Mapping[str, View]
    fields: tuple[str, ...]
    seed: int
    steps: int
    rows: Sequence[Rows]  # of each piece
    readings: int

    @property
    def a_step(self) -> int:
        """Elements that a step is made of."""
        return self.readings * len(self.rows)

    def __len__(self) -> int:
        return self.steps * self.a_step

    def first_reading(self, element: int) -> bool:
        """Whether the element is of the first reading of its step."""
        return element % self.a_step < len(self.rows)

    def __getitem__(self, element: int) -> dict[str, Any]:
        rows = self.rows[element % len(self.rows)]
        step = element // self.a_step
        level = logging.WARNING if self.first_reading(element) else logging.DEBUG
        indices = self.sampler(step, rows)
        numbers = itertools.count(rows.start or 0) if isinstance(rows, slice) else rows.tolist()
        # Those that draw together each begin at the same place of one stream.
        places = {n: f"together {v.together}" if v.together else f"view {n}" for n, v in self.views.items()}
        streams = {name: Streams(self.seed, place) for name, place in places.items()}
        examples, values, broken = [], [], 0
        for row, members in zip(numbers, indices):
            for attempt in range(1, _TRIES + 1):
                try:
                    example, value = self._example(members, step, row, streams)
                    break
                except BrokenRecord as error:
                    _log.log(level, "%s; another record takes its place", error)
                    broken += 1
                    # The next index of the same stream: this row's records in a later step, which
                    # other rows and other hosts need not know of.
                    members = self.sampler(step + attempt, slice(row, row + 1))[0]
            else:
                raise InputError(
                    f"source {self.source.name}: {_TRIES} records that cannot be read, one after another"
                )
            examples.append(example)
            values.append(value)
        return {
            "views": {name: np.stack([example[name] for example in examples]) for name in self.views},
            "fields": dict(zip(self.fields, np.array(values, np.int32).reshape(len(values), -1).T)),
            "broken": np.int32(broken),
        }

    def _example(
        self, members: Int64[np.ndarray, " members"], step: int, row: int, streams: dict[str, Streams]
    ) -> tuple[dict[str, np.ndarray], list[int]]:
        records = [_read(self.source, index) for index in members.tolist()]
        with naming(self.source.name, members.tolist(), BrokenRecord):
            example = {
                name: _seen(view, records[view.member], streams[name].at(step, row), True)
                for name, view in self.views.items()
            }
        return example, [_field(self.source, records, name) for name in self.fields]


def check_members(views: Mapping[str, View], sampler: Sampler) -> None:
    """Raises InputError for a view of a member that the sampler does not draw."""
    drawn = sampler(0, slice(0, 1)).shape[1]
    for name, view in views.items():
        if view.member >= drawn:
            raise InputError(f"view {name!r}: member={view.member}, but the sampler draws {drawn} a row")


def evaluate_view(source: Source, view: View, indices: Sequence[int]) -> Shaped[np.ndarray, "n ..."]:
    """One view of the given records, in their order and without randomness.

    Raises:
        BrokenRecord: one of them cannot be read.
    """
    unused = np.random.Generator(np.random.Philox(0))
    examples = []
    for index in indices:
        record = _read(source, int(index))
        with naming(source.name, [int(index)], BrokenRecord):
            examples.append(_seen(view, record, unused, False))
    structure = view.structure()
    return np.stack(examples) if examples else np.empty((0, *structure.shape), structure.dtype)


def _field(source: Source, records: list[dict[str, Any]], field: str) -> int:
    """A whole number; a text is numbered by a checksum, so that equal ones are equal labels."""
    name, _, member = field.partition(":")
    try:
        value = records[int(member or 0)][name]
        number = zlib.crc32(value.encode()) >> 1 if _is_words(value) else int(value)
        if not -(2**31) <= number < 2**31:
            raise ValueError(f"{number} has more than 32 bits")
        return number
    except (KeyError, IndexError, ValueError, TypeError):
        raise InputError(
            f"batch field {field!r} is neither a whole number of 32 bits nor a text in {source.name}"
        ) from None


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not value.strip().lstrip("+-").isdecimal()


def _seen(view: View, record: dict[str, Any], rng: np.random.Generator, train: bool) -> np.ndarray:
    try:
        return view(record, rng, train)
    except KeyError as error:
        raise BrokenRecord(f"it has no field {error}") from error


def _read(source: Source, index: int) -> dict[str, Any]:
    with naming(source.name, [index], BrokenRecord):
        return source[index]


def whereabouts() -> str:
    """``record 17``: what a thread of this process is making an example of; empty between two of them."""
    for frame in sys._current_frames().values():
        while frame is not None and frame.f_code is not Steps._example.__code__:
            frame = frame.f_back
        if frame is not None:
            return f"record {', '.join(map(str, frame.f_locals['members'].tolist()))}"
    return ""
