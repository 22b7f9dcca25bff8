"""`bench input`: this library's readers and another's, taking turns at the same pictures and captions."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from contrastive_jax.benchmarks.children import PeerError, Process
from contrastive_jax.benchmarks.processor_time import tree_seconds
from contrastive_jax.data.pipeline import batches
from contrastive_jax.data.samplers import Permutation
from contrastive_jax.data.tokenizers import BytePairs
from contrastive_jax.data.views import Photo, Text
from contrastive_jax.data.views.text import strings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contrastive_jax.data.records import Source

log = logging.getLogger(__name__)
PROGRAM = Path(__file__).with_name("input_peers.py")
PREFETCH = 2  # batches that wait in each worker, here and there
CROP, RATIO, FLIP, WORD_DROPOUT = (0.08, 1.0), (3 / 4, 4 / 3), 0.5, 0.1
_LEAST = 10  # batches a run, lest one that was begun before it, or ends after it, weigh much
_LONGEST_WAIT = 5.0  # seconds for another's workers to fill up and rest


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is read: `batch` examples a batch by `workers` processes (0: a thread), each run for `seconds`;
    pictures of `resolution` pixels a side, captions of `length` tokens."""

    batch: int = 64
    workers: int = 1
    resolution: int = 224
    length: int = 64
    runs: int = 5
    seconds: float = 3.0

    @property
    def waiting(self) -> int:
        """Batches that may wait ready when a run begins: in a worker, on the way and in a thread."""
        return (2 * PREFETCH + 4) * max(self.workers, 1)


class Reading(NamedTuple):
    """What a run has read, and the processor time that it took (None where nobody tells)."""

    examples: int
    tokens: int
    seconds: float
    processor_seconds: float | None


class Ours:
    """This library's batches, from a source."""

    def __init__(self, source: Source, views: Mapping[str, Any], sampler: Any, setting: Setting) -> None:
        self.setting, self.peers = setting, set()
        self._paddings = {n: view.tokenizer.padding for n, view in views.items() if isinstance(view, Text)}
        self._batches = batches(
            source,
            sampler.bind(source, setting.batch, 0),
            views,
            seed=0,
            steps=10**9,
            workers=setting.workers,
            prefetch=PREFETCH,
        )
        self.close = self._batches.close

    @property
    def used(self) -> float | None:
        return tree_seconds(os.getpid(), self.peers)

    def drop(self, count: int) -> None:
        for _ in range(count):
            next(self._batches)

    def run(self) -> tuple[int, int, float]:
        examples, tokens, began = 0, 0, time.perf_counter()
        least = _LEAST * self.setting.batch
        while examples < least or time.perf_counter() - began < self.setting.seconds:
            views = next(self._batches)["views"]
            examples += len(next(iter(views.values())))
            tokens += sum(int((views[name] != padding).sum()) for name, padding in self._paddings.items())
        return examples, tokens, time.perf_counter() - began


class Theirs:
    """Another library's, in the process of `input_peers`."""

    def __init__(self, process: Process, what: str, setting: Setting) -> None:
        self._process, self._what, self.setting = process, what, setting

    @property
    def used(self) -> float | None:
        return tree_seconds(self._process.pid)

    def drop(self, count: int) -> None:
        self._process.ask("read", what=self._what, batches=count)

    def run(self) -> tuple[int, int, float]:
        least = _LEAST * self.setting.batch
        read = self._process.ask("read", what=self._what, seconds=self.setting.seconds, least=least)
        return read["examples"], read["tokens"], read["seconds"]


def standard_views(source: Source, setting: Setting) -> dict[str, dict[str, Any]]:
    """Random crops of the records' pictures, and tokens of their captions, as far as they have them: two
    things to measure, each with a view of its own."""
    record, measured = source[0], {}
    if "image" in record:
        photo = Photo(resolution=setting.resolution, crop=CROP, ratio=RATIO, flip=FLIP)
        measured["pictures"] = {"image": photo}
    if isinstance(record.get("text"), str):
        tokenizer = BytePairs(vocabulary=8192).train(strings(source.column("text")))
        text = Text(length=setting.length, word_dropout=WORD_DROPOUT).bind(tokenizer)
        measured["tokens"] = {"text": text}
    return measured


def measure(
    source: Source,
    measured: Mapping[str, Mapping[str, Any]],
    setting: Setting,
    *,
    sampler: Any = None,
    tars: list[str] | None = None,
    python: str = "",
) -> dict[str, Any]:
    """The figures that `docs/benchmarks.md` describes.

    Args:
        source: the records.
        measured: what to measure, and the views that it takes.
        setting: how.
        sampler: of a config; by default a permutation.
        tars: the source's files, where WebDataset is to be measured against; it wants `standard_views`.
        python: what runs it.
    """
    sampler = sampler or Permutation(repeat=True)
    figures: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    with ExitStack() as stack:
        process = _started(stack, measured, setting, tars, python, theirs) if tars else None
        for name, views in measured.items():
            log.info("%d runs of %g s each: %s", setting.runs, setting.seconds, name)
            ours = stack.enter_context(contextlib.closing(Ours(source, views, sampler, setting)))
            contenders: dict[str, Ours | Theirs] = {"ours": ours}
            if process and "error" not in theirs:
                ours.peers.add(process.pid)
                contenders["theirs"] = Theirs(process, name, setting)
            try:
                readings = _in_turn(contenders, setting)
            except PeerError as error:
                theirs["error"] = " ".join(str(error).split())
                readings = _in_turn({"ours": ours}, setting)
            ours.close()
            figures |= _rates(name, readings["ours"])
            theirs |= _rates(name, readings.get("theirs", []))
    return figures | {"against": {"webdataset": _compared(figures, theirs)} if tars else {}}


def _started(stack, measured, setting, tars, python, theirs) -> Process | None:
    """The peer, ready to read, with the versions of what it uses in `theirs`; or an error there."""
    try:
        process = stack.enter_context(contextlib.closing(Process(PROGRAM, python)))
        file = process.path("tokenizer.json")
        if "tokens" in measured:
            measured["tokens"]["text"].tokenizer.save(file)
        asked = dict(crop=CROP, ratio=RATIO, length=setting.length, word_dropout=WORD_DROPOUT, tokenizer=file)
        asked |= dict(batch=setting.batch, workers=setting.workers, prefetch=PREFETCH, tars=tars)
        theirs |= process.ask("start", resolution=setting.resolution, **asked)
    except PeerError as error:
        theirs["error"] = " ".join(str(error).split())
        return None
    return process


def _in_turn(contenders: Mapping[str, Ours | Theirs], setting: Setting) -> dict[str, list[Reading]]:
    """The runs of each; what was ready before a run does not count, and no run begins before all rest."""
    readings: dict[str, list[Reading]] = {name: [] for name in contenders}
    for round_ in range(setting.runs):
        for name in list(contenders)[:: 1 if round_ % 2 else -1]:
            for each in contenders.values():
                _rest(each)
            contender = contenders[name]
            contender.drop(setting.waiting)
            before = contender.used
            read = contender.run()
            after = contender.used
            readings[name].append(Reading(*read, None if after is None else after - before))
    return readings


def _rest(contender: Ours | Theirs) -> None:
    """Waits until its workers have filled up what they may, and use no processor."""
    deadline, used = time.monotonic() + _LONGEST_WAIT, contender.used
    while used is not None and time.monotonic() < deadline:
        time.sleep(0.1)
        now = contender.used
        if now - used < 0.02:
            return
        used = now


def _rates(name: str, readings: list[Reading]) -> dict[str, float | None]:
    """A second: the fastest run. A core's second: all runs together, for it minds no other processes."""
    rates: dict[str, float | None] = {}
    processor = sum(reading.processor_seconds or 0 for reading in readings)
    for unit in (name, "tokens") if name != "tokens" else ("tokens",):
        counts = [reading.tokens if unit == "tokens" else reading.examples for reading in readings]
        if any(counts):
            fastest = max(count / reading.seconds for count, reading in zip(counts, readings))
            rates[f"{unit}_per_second"] = fastest
            rates[f"{unit}_per_core_second"] = sum(counts) / processor if processor else None
    return rates


def _compared(ours: Mapping[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Theirs, with ours over theirs."""
    both = [name for name in ours if ours[name] and theirs.get(name)]
    return theirs | {name.replace("_per_", "_ratio_per_"): ours[name] / theirs[name] for name in both}
