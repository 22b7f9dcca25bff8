"""Batches in the order of the steps, read ahead by threads or processes."""

from __future__ import annotations

import functools
import re
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grain
import numpy as np
from absl import flags

from contrastive_jax.data.examples import Steps, check_members, whereabouts
from contrastive_jax.data.numbering import Numbering, numbering
from contrastive_jax.data.reading import Ahead, ReaderFailed
from contrastive_jax.data.workers import Lifeline, start_worker
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jaxtyping import Int64

    from contrastive_jax.data.examples import Rows, Sampler, View
    from contrastive_jax.data.records import Source

_FIRST_EXAMPLES = 1000  # one bad record among the first few is not yet a share
_SECONDS_TO_END = 5.0  # which workers are given before they are ended
_KILLED = re.compile(r"Worker process was terminated unexpectedly with exit code (-?\d+)")


class Batches:
    """An iterator of batches; `close` stops its threads and processes, as does leaving a `with`."""

    def __init__(
        self,
        dataset: grain.IterDataset,
        of_steps: Steps,
        lifeline: Lifeline,
        *,
        start: int,
        ahead: int,
        workers: int,
        broken_share: float,
        stall_seconds: float,
        waiting: Callable[[], None],
    ) -> None:
        self._ahead = Ahead(iter(dataset), ahead)
        self._of_steps, self._lifeline = of_steps, lifeline
        self._start, self._workers, self._share = start, workers, broken_share
        self._stall_seconds, self._waiting = stall_seconds, waiting
        self._taken = self._seen = self._broken = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        try:
            batch, error = self._ahead.take(self._stall_seconds, self._waiting)
        except TimeoutError:
            stalled = self._stalled()
            self.close(at_once=True)
            raise stalled from None
        if error is not None:
            self.close()
            killed = _KILLED.search(str(error))
            if killed:
                raise self._died(int(killed[1]))
            raise error
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

    def _stalled(self) -> ReaderFailed:
        who, at = "its reader", whereabouts()
        if self._workers:
            pid, at = self._lifeline.ask(self._reader)
            who = f"{self._worker} (process {pid or 'not started'})"
        does = "does not answer" if at is None else f"hangs at {at}" if at else "waits"
        return self._failed(
            f"no batch for step {self._step} in {self._stall_seconds:g} s (config.data.stall_seconds): "
            f"{who} {does}"
        )

    def _died(self, code: int) -> ReaderFailed:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (is the memory full?)" if code == -signal.SIGKILL else ""
        return self._failed(f"{self._worker} {how}{hint} before it had the batch for step {self._step}")

    def _failed(self, reason: str) -> ReaderFailed:
        return ReaderFailed(f"source {self._of_steps.source.name}: {reason}")

    @property
    def _step(self) -> int:
        """The step, from 1, of the batch that is due."""
        return self._start + self._taken // self._of_steps.a_step + 1

    @property
    def _reader(self) -> int:
        """The worker, from 0, whose turn it is."""
        return self._taken % self._workers

    @property
    def _worker(self) -> str:
        return f"worker {self._reader + 1} of {self._workers}"

    def close(self, at_once: bool = False) -> None:
        """Stops reading ahead; the iterator is not to be used again.

        Workers are given a moment to end by themselves, so that they leave nothing in shared memory.
        """
        ended = self._ahead.close(0 if at_once else _SECONDS_TO_END)
        self._lifeline.cut(kill=True)
        if self._workers and not ended:
            self._ahead.close(_SECONDS_TO_END)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batches(
    source: Source,
    sampler: Sampler,
    views: Mapping[str, View],
    *,
    fields: Sequence[str] | Mapping[str, Numbering] = (),
    seed: int,
    start: int = 0,
    steps: int,
    rows: Rows | Int64[np.ndarray, "count b"] = slice(None),
    readings: int = 1,
    workers: int = 0,
    prefetch: int = 4,
    skip: frozenset[int] = frozenset(),
    broken_share: float = 0.01,
    stall_seconds: float = 600.0,
    waiting: Callable[[], None] = lambda: None,
) -> Batches:
    """The batches of the steps `start`, ..., `steps` - 1.

    A batch is ``{"views": {name: [B, ...]}, "fields": {name: int32 [B]}, "broken": int32}`` and depends
    on nothing but the source, the sampler, the views, the seed and the step: it is the same whatever
    the start, the workers and the rows that other processes read. A record that cannot be read is
    counted in `broken`, logged, and replaced by the record of the same row in the next step; so is one
    that `skip` names, but for counting and logging.

    Args:
        source: the records.
        sampler: what `Permutation` or `Groups` made by `bind`.
        views: by name.
        fields: fields of the records to pass on, and how they are numbered (by default as `numbering` says):
            ``character`` of the first record that the sampler drew for a row, ``character:1`` of the second.
        seed: of the views' random numbers.
        start: the first step.
        steps: the step to stop before.
        rows: the rows of the global batch that this process reads, with a step of 1. An array [count, b]
            cuts the batch into pieces: each comes as a batch of its own, piece after piece.
        readings: how often the pieces of a step come before those of the next step: the same examples
            again, whose broken records are counted and logged the first time only.
        workers: processes that read ahead; 0 reads ahead in a thread.
        prefetch: batches, or pieces, read ahead in each worker.
        skip: the numbers of records that are not trained on.
        broken_share: share of records that may be broken (of at least 1,000).
        stall_seconds: how long to wait for one batch.
        waiting: called many times a second during such a wait; what it raises ends the wait, not the
            readers.

    Raises:
        InputError: a view or field of a member that the sampler does not draw; while iterating, when the
            share is passed, or a field is no label.
        ReaderFailed: while iterating, when a batch does not come in time, or a worker has died.
    """
    check_members(views, sampler, fields)
    if not isinstance(fields, Mapping):
        fields = {field: numbering(source, field) for field in fields}
    pieces = [rows] if isinstance(rows, slice) else rows
    of_steps = Steps(source, sampler, dict(views), dict(fields), seed, steps, pieces, readings, skip)
    ahead = max(prefetch, 1)
    dataset = grain.MapDataset.source(of_steps).slice(slice(start * of_steps.a_step, None))
    # Without workers the thread that takes from Grain is the one that reads ahead.
    inside = ahead if workers else 0
    options = grain.ReadOptions(num_threads=min(inside, 1), prefetch_buffer_size=inside)
    dataset = dataset.to_iter_dataset(options)
    lifeline = Lifeline(workers)
    if workers:
        _parse_flag("grain_enable_multiprocess_worker_profiling")
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=ahead),
            worker_init_fn=functools.partial(start_worker, lifeline.address, whereabouts),
        )
    return Batches(
        dataset,
        of_steps,
        lifeline,
        start=start,
        ahead=1 if workers else ahead,
        workers=workers,
        broken_share=broken_share,
        stall_seconds=stall_seconds,
        waiting=waiting,
    )


def _parse_flag(name: str) -> None:
    # Grain reads its flags through absl, which fails where no absl application has parsed them.
    if name in flags.FLAGS and not flags.FLAGS.is_parsed():
        flags.FLAGS[name].present = True
