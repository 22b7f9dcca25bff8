"""Batches in the order of the steps, read ahead by threads or processes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
from typing import TYPE_CHECKING, Any, Protocol

import grain
import numpy as np
from absl import flags

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.streams import Streams
from contrastive_jax.data.workers import Lifeline, signals_blocked, start_worker
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import jax
    from jaxtyping import Int64, Shaped

    from contrastive_jax.data.records import Source

    Rows = slice | Int64[np.ndarray, " b"]

_log = logging.getLogger(__name__)
_TRIES = 16  # successive broken records of a row, after which the source as a whole is to blame
_FIRST_EXAMPLES = 1000  # one bad record among the first few is not yet a share


class View(Protocol):
    """An array made of one of the records that a sampler drew for a row."""

    member: int

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example."""
        ...

    def __call__(self, record: dict[str, Any], rng: np.random.Generator, train: bool) -> np.ndarray:
        """One example."""
        ...


class Sampler(Protocol):
    """The record indices of a step's batch, or of some rows of it."""

    def __call__(self, step: int, rows: Rows = slice(None)) -> Int64[np.ndarray, "b members"]: ...


@dataclasses.dataclass(frozen=True)
class _Steps:
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
        streams = {name: Streams(self.seed, f"view {name}") for name in self.views}
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
        with _naming(self.source, members.tolist()):
            example = {
                name: _seen(view, records[view.member], streams[name].at(step, row), True)
                for name, view in self.views.items()
            }
        return example, [_field(self.source, records, name) for name in self.fields]


class Batches:
    """An iterator of batches; `close` stops its threads and processes, as does leaving a `with`."""

    def __init__(
        self, dataset: grain.IterDataset, of_steps: _Steps, lifeline: Lifeline, broken_share: float
    ) -> None:
        self._iterator, self._of_steps, self._lifeline = iter(dataset), of_steps, lifeline
        self._share = broken_share
        self._starts_workers = lifeline.address is not None
        self._taken = self._seen = self._broken = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        try:
            with signals_blocked() if self._starts_workers else contextlib.nullcontext():
                batch = next(self._iterator)
        except Exception:
            self.close()
            raise
        self._starts_workers = False
        if self._of_steps.first_reading(self._taken):
            self._seen += len(next(iter(batch["views"].values())))
            self._broken += int(batch["broken"])
        self._taken += 1
        if self._broken > self._share * max(self._seen, _FIRST_EXAMPLES):
            self.close()
            raise InputError(
                f"source {self._of_steps.source.name}: {self._broken} of {self._seen} records cannot be "
                f"read, more than data.broken_share={self._share} allows; mend the source or raise it"
            )
        return batch

    def close(self) -> None:
        """Stops reading ahead; the iterator is not to be used again."""
        self._iterator.close()
        self._lifeline.cut()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batches(
    source: Source,
    sampler: Sampler,
    views: Mapping[str, View],
    *,
    fields: tuple[str, ...] = (),
    seed: int,
    start: int = 0,
    steps: int,
    rows: Rows | Int64[np.ndarray, "count b"] = slice(None),
    readings: int = 1,
    workers: int = 0,
    prefetch: int = 4,
    broken_share: float = 0.01,
) -> Batches:
    """The batches of the steps `start`, ..., `steps` - 1.

    A batch is ``{"views": {name: [B, ...]}, "fields": {name: int32 [B]}, "broken": int32}`` and depends
    on nothing but the source, the sampler, the views, the seed and the step: it is the same whatever
    the start, the workers and the rows that other processes read. A record that cannot be read is
    counted in `broken`, logged, and replaced by the record of the same row in the next step.

    Args:
        source: the records.
        sampler: what `Permutation` or `Groups` made by `bind`.
        views: by name.
        fields: whole-number fields of the records to pass on: ``character`` of the first record that the
            sampler drew for a row, ``character:1`` of the second.
        seed: of the views' random numbers.
        start: the first step.
        steps: the step to stop before.
        rows: the rows of the global batch that this process reads, with a step of 1. An array [count, b]
            cuts the batch into pieces: each comes as a batch of its own, piece after piece.
        readings: how often the pieces of a step come before those of the next step: the same examples
            again, whose broken records are counted and logged the first time only.
        workers: processes that read ahead; 0 reads ahead in a thread.
        prefetch: batches, or pieces, read ahead in each worker.
        broken_share: share of records that may be broken (of at least 1,000).

    Raises:
        InputError: while iterating, when the share is passed.
    """
    check_members(views, sampler)
    pieces = [rows] if isinstance(rows, slice) else rows
    of_steps = _Steps(source, sampler, dict(views), tuple(fields), seed, steps, pieces, readings)
    ahead = max(prefetch, 1)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=ahead)
    dataset = grain.MapDataset.source(of_steps).slice(slice(start * of_steps.a_step, None))
    dataset = dataset.to_iter_dataset(options)
    lifeline = Lifeline(workers)
    if workers:
        _parse_flag("grain_enable_multiprocess_worker_profiling")
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=ahead),
            worker_init_fn=functools.partial(start_worker, lifeline.address),
        )
    return Batches(dataset, of_steps, lifeline, broken_share)


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
        with _naming(source, [int(index)]):
            examples.append(_seen(view, record, unused, False))
    structure = view.structure()
    return np.stack(examples) if examples else np.empty((0, *structure.shape), structure.dtype)


def _field(source: Source, records: list[dict[str, Any]], field: str) -> int:
    name, _, member = field.partition(":")
    try:
        return int(records[int(member or 0)][name])
    except (KeyError, IndexError, ValueError, TypeError):
        raise InputError(
            f"batch field {field!r} is no whole number in the records of {source.name}"
        ) from None


def _seen(view: View, record: dict[str, Any], rng: np.random.Generator, train: bool) -> np.ndarray:
    try:
        return view(record, rng, train)
    except KeyError as error:
        raise BrokenRecord(f"it has no field {error}") from error


def _read(source: Source, index: int) -> dict[str, Any]:
    with _naming(source, [index]):
        return source[index]


@contextlib.contextmanager
def _naming(source: Source, indices: list[int]) -> Iterator[None]:
    try:
        yield
    except BrokenRecord as error:
        raise BrokenRecord(f"{source.name}, record {', '.join(map(str, indices))}: {error}") from error


def _parse_flag(name: str) -> None:
    # Grain reads its flags through absl, which fails where no absl application has parsed them.
    if name in flags.FLAGS and not flags.FLAGS.is_parsed():
        flags.FLAGS[name].present = True
