"""Examples: what the views make of the records that a sampler drew for a row of a step."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import sys
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from contrastive_jax.data.faults import naming
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.streams import Streams
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import jax
    from jaxtyping import Int64, Shaped

    from contrastive_jax.data.numbering import Numbering
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
    fields: Mapping[str, Numbering]
    seed: int
    steps: int
    rows: Sequence[Rows]  # of each piece
    readings: int
    skip: frozenset[int] = frozenset()  # records that are not trained on

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
        return self.drawn(element)[0]

    def drawn(self, element: int) -> tuple[dict[str, Any], list[Int64[np.ndarray, " members"]]]:
        """An element, and the records that each of its rows is made of."""
        rows = self.rows[element % len(self.rows)]
        step = element // self.a_step
        level = logging.WARNING if self.first_reading(element) else logging.DEBUG
        indices = self.sampler(step, rows)
        numbers = itertools.count(rows.start or 0) if isinstance(rows, slice) else rows.tolist()
        # Those that draw together each begin at the same place of one stream.
        places = {n: f"together {v.together}" if v.together else f"view {n}" for n, v in self.views.items()}
        streams = {name: Streams(self.seed, place) for name, place in places.items()}
        examples, values, drawn, broken = [], [], [], 0
        for row, members in zip(numbers, indices):
            members, (example, value), failed = self._row(members, step, row, streams, level)
            examples.append(example)
            values.append(value)
            drawn.append(members)
            broken += failed
        batch = {
            "views": {name: np.stack([example[name] for example in examples]) for name in self.views},
            "fields": dict(zip(self.fields, np.array(values, np.int32).reshape(len(values), -1).T)),
            "broken": np.int32(broken),
        }
        return batch, drawn

    def _row(
        self,
        members: Int64[np.ndarray, " members"],
        step: int,
        row: int,
        streams: dict[str, Streams],
        level: int,
    ) -> tuple[Int64[np.ndarray, " members"], tuple[dict[str, np.ndarray], list[int]], int]:
        """(the records, the example of them, how many broken ones it met) of a row of a step."""
        broken = 0
        for attempt in range(1, _TRIES + 1):
            if self.skip.isdisjoint(members.tolist()):
                try:
                    return members, self._example(members, step, row, streams), broken
                except BrokenRecord as error:
                    _log.log(level, "%s; another record takes its place", error)
                    broken += 1
            # The next index of the same stream: this row's records in a later step, which
            # other rows and other hosts need not know of.
            members = self.sampler(step + attempt, slice(row, row + 1))[0]
        skipped = " or are in data.skip" if self.skip else ""
        raise InputError(
            f"source {self.source.name}: {_TRIES} records that cannot be read{skipped}, one after another"
        )

    def _example(
        self, members: Int64[np.ndarray, " members"], step: int, row: int, streams: dict[str, Streams]
    ) -> tuple[dict[str, np.ndarray], list[int]]:
        records = [_read(self.source, index) for index in members.tolist()]
        with naming(self.source.name, members.tolist(), BrokenRecord):
            example = {
                name: _seen(view, records[view.member], streams[name].at(step, row), True)
                for name, view in self.views.items()
            }
        return example, [number(records, members.tolist()) for number in self.fields.values()]


def check_members(views: Mapping[str, View], sampler: Sampler, fields: Iterable[str] = ()) -> None:
    """Raises InputError for a view or a batch field of a member that the sampler does not draw."""
    drawn = sampler(0, slice(0, 1)).shape[1]
    for field in fields:
        member = field.partition(":")[2] or "0"
        if not (member.isascii() and member.isdecimal() and int(member) < drawn):
            raise InputError(
                f"batch field {field!r}: no member {member}, for the sampler draws {drawn} a row"
            )
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
