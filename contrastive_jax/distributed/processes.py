"""The processes of one run: what they tell each other, who is lost, how they end together.

JAX's own runtime does the work: its coordination service, in process 0, connects the processes, holds what
they tell each other, and notices by missing heartbeats when one is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from contrastive_jax.distributed.coordination import client, wait_for
from contrastive_jax.distributed.stalls import Judge, Pace, Report, end_if_locked, verdict
from contrastive_jax.errors import FAILED

_SECONDS_BETWEEN_LOOKS = 2.0
_FAILED = "contrastive_jax/failed"
_LEFT = "contrastive_jax/left"
_ALL = "contrastive_jax/all"
_REPORTS = "contrastive_jax/reports"
_STALLED = "contrastive_jax/stalled"
_AGAIN = "run the same command again in every process to go on from the last checkpoint"


class _End(NamedTuple):
    """Why a process ends; missing: how many give no sign of life, None where process 0 does not."""

    reason: str
    code: int = FAILED
    missing: int | None = 0


class Group:
    """This process among those of the run; the only one where `count` is 1."""

    def __init__(
        self, count: int = 1, index: int = 0, lost_seconds: int = 60, stalled_seconds: int = 600
    ) -> None:
        self.count, self.index, self.lost_seconds = count, index, lost_seconds
        self._pace, self._judge = Pace(stalled_seconds), Judge()
        self._looked = time.monotonic()
        self._meetings = 0
        self._failing = self._ending = self._leaving = False
        self._one_leaves = threading.Lock()
        self._deserted, self._ended = threading.Event(), threading.Event()

    @property
    def first(self) -> bool:
        """Whether this is process 0, which alone writes what one process must write."""
        return self.index == 0

    @property
    def name(self) -> str:
        return f"process {self.index} of {self.count}"

    def gather(self, value: Any, seconds: float | None = None) -> list[Any]:
        """The JSON values of all processes, in their order; every process calls it, in the same order.

        seconds: the longest wait; None waits for as long as all live, which `watch` sees to.

        Raises:
          ProcessLost: some process did not come within the time.
        """
        if self.count == 1:
            return [value]
        folder = self._meeting()
        client().key_value_set(f"{folder}/{self.index}", json.dumps(value))
        self.barrier(folder, seconds)
        found = {int(key.rpartition("/")[2]): text for key, text in client().key_value_dir_get(folder)}
        return [json.loads(found[index]) for index in range(self.count)]

    def tell(self, value: Any = None, seconds: float | None = None) -> Any:
        """What process 0 gave, in every process; it does not wait for the others. `seconds` as in `gather`.

        Raises:
          ProcessLost: process 0 did not come within the time.
        """
        if self.count == 1:
            return value
        key = f"{self._meeting()}/0"
        if self.first:
            client().key_value_set(key, json.dumps(value))
            return value
        return json.loads(
            wait_for(key, seconds, self.index, lambda: (f"{self._names([0])} has not been heard of", 1))
        )

    def collect(self, value: Any, name: str) -> list[Any]:
        """The JSON values of all processes, in process 0; none in the others.

        For threads beside the main one: `name`, used once, stands for the order of calls.

        Raises:
          ProcessLost: as `barrier` does.
        """
        if self.count == 1:
            return [value]
        folder = f"contrastive_jax/collected/{name}"
        client().key_value_set(f"{folder}/{self.index}", json.dumps(value))
        self.barrier(f"{name} is collected")
        if not self.first:
            return []
        # One by one: together they may be more than one message holds.
        keys = [f"{folder}/{index}" for index in range(self.count)]
        found = [json.loads(client().blocking_key_value_get(key, 60_000)) for key in keys]
        client().key_value_delete(f"{folder}/")
        return found

    def _meeting(self) -> str:
        self._meetings += 1
        return f"contrastive_jax/meeting/{self._meetings}"

    def barrier(self, name: str, seconds: float | None = None) -> None:
        """Waits for all processes; `name` is used once, `seconds` as in `gather`.

        Raises:
          ProcessLost: some did not come within the time.
        """
        if self.count == 1:
            return
        here = f"contrastive_jax/here/{name}"

        def late() -> tuple[str, int]:
            arrived = {int(key.rpartition("/")[2]) for key, _ in client().key_value_dir_get(here)}
            missing = [index for index in range(self.count) if index not in arrived]
            return f"{self._names(missing)} has not reached {name!r}", min(arrived)

        client().key_value_set(f"{here}/{self.index}", "")
        if client().key_value_increment(f"{_ALL}/{name}/count", 1) == self.count:
            client().key_value_set(f"{_ALL}/{name}/here", "")
        wait_for(f"{_ALL}/{name}/here", seconds, self.index, late)

    def begin_steps(self, step: int, doing: Callable[[], str]) -> None:
        """Waits until all have compiled theirs; from here on a step that does not end is noticed.

        step: what is done before; doing: what this process does at a moment, a kind of `Clock`.
        """
        if self.count > 1:
            self.barrier("the first step")
            self._pace.begin(step, doing)

    def finished(self, step: int | None = None) -> None:
        """A step's metrics have been read; None: that of a part of a step, which all have read together."""
        self._pace.finished(step)

    def fail(self, message: str, code: int) -> None:
        """Tells the other processes why this one ends and with what code, and waits until they know."""
        if self.count == 1 or self._failing:
            return
        self._failing = True
        with contextlib.suppress(Exception):
            client().key_value_set(f"{_FAILED}/{self.index}", json.dumps([message, code]))
            until = time.monotonic() + 3 * _SECONDS_BETWEEN_LOOKS
            while time.monotonic() < until and len(client().key_value_dir_get(_FAILED)) < self.count:
                time.sleep(0.1)

    def lost(self) -> None:
        """After an error that a lost process may have caused: returns if none is missed in time."""
        if self.count > 1:
            time.sleep(self.lost_seconds + 3 * _SECONDS_BETWEEN_LOOKS)
            while self._leaving:  # the other thread has told why, and is about to end this process
                time.sleep(0.1)

    def watch(self) -> None:
        """Ends this process, in a thread, once another one has failed or is lost, or the run stands still."""
        # Apart, as the runtime answers who lives only when all that live have asked.
        for look in (self._told, self._missed):
            threading.Thread(target=self._watch, args=(look,), daemon=True, name="watch").start()

    def end(self) -> None:
        """The orderly end, once every process has come to it."""
        import jax

        self.barrier("the end")
        self._ending = True
        if self.first:  # the others need its coordination service for their own end
            self._deserted.wait(self.lost_seconds)
        self._ended.set()
        end_if_locked(None)
        jax.distributed.shutdown()

    def abandon(self) -> None:
        """After `fail`: process 0 gives the others, who need its coordination service, time to go."""
        self._ending = True
        if self.first:
            self._deserted.wait(3 * _SECONDS_BETWEEN_LOOKS)

    def _watch(self, look: Callable[[], _End | None]) -> None:
        while not self._ended.wait(0.1 if self._ending else _SECONDS_BETWEEN_LOOKS):
            try:
                end = look()
            except Exception:
                self._leave(_End("process 0, the coordinator, cannot be reached", missing=None))
                return
            if end:
                self._leave(end)

    def _told(self) -> _End | None:
        """What another process has told of its own end, or one of the run's that stands still."""
        for key, text in client().key_value_dir_get(_FAILED):
            message, code = json.loads(text)
            return _End(f"process {key.rpartition('/')[2]} of {self.count} ended: {message}", code)
        return self._stalled()

    def _missed(self) -> _End | None:
        """Who gives no sign of life any more."""
        live = client().get_live_nodes(list(range(self.count)))
        if set(live) == {self.index}:
            self._deserted.set()
        missing = [index for index in range(self.count) if index not in live]
        if not missing:
            return None
        return _End(
            f"{self._names(missing)} gave no sign of life for {self.lost_seconds} s; {_AGAIN}",
            missing=len(missing),
        )

    def _stalled(self) -> _End | None:
        """That the run stands still, which whoever finds it first tells all."""
        now = time.monotonic()
        # A process that was stopped and goes on has not been looked at meanwhile.
        report = self._pace.look(min(now - self._looked, 3 * _SECONDS_BETWEEN_LOOKS))
        self._looked = now
        if report is None:
            return None
        store = client()
        store.key_value_set(f"{_REPORTS}/{self.index}", json.dumps(report), allow_overwrite=True)
        limit = self._pace.limit
        end_if_locked(None if self._ended.is_set() else limit + 5 * _SECONDS_BETWEEN_LOOKS)
        if report.stalled and self._judge.due(now, limit):
            told = store.key_value_dir_get(_REPORTS)
            found = {int(key.rpartition("/")[2]): Report(*json.loads(text)) for key, text in told}
            reports = [found.get(index, Report()) for index in range(self.count)]
            if self._judge.stalled(reports, now, limit):
                why = f"{verdict(reports, self._pace.quiet, self._names)}; {_AGAIN}"
                silent = sum(not report.stalled for report in reports)
                with contextlib.suppress(RuntimeError):  # another one has found it at the same time
                    store.key_value_set(f"{_STALLED}/why", json.dumps([why, silent]))
        for _, text in store.key_value_dir_get(_STALLED):
            why, silent = json.loads(text)
            return _End(why, missing=silent)
        return None

    def _leave(self, end: _End) -> None:
        with self._one_leaves:
            if self._failing or self._ending:
                return
            self._leaving = True
            end_if_locked(None)
            print(f"contrastive-jax: {self.name}: {end.reason}", file=sys.stderr, flush=True)
            if end.missing is not None:
                self._go_last(end.missing)
            os._exit(end.code)

    def _go_last(self, missing: int) -> None:
        """Process 0 waits for the others: the runtime aborts a process whose coordinator goes before it."""
        with contextlib.suppress(Exception):
            client().key_value_set(f"{_LEFT}/{self.index}", "")
            until = time.monotonic() + self.lost_seconds
            while self.first and time.monotonic() < until:
                gone = [key for kind in (_LEFT, _FAILED) for key in client().key_value_dir_get(kind)]
                if len(gone) + missing >= self.count:
                    break
                time.sleep(0.1)

    def _names(self, indices: list[int]) -> str:
        """`process 2 (host-c) of 4`, as far as a process has said where it runs."""
        named = []
        for index in indices:
            host = None
            with contextlib.suppress(Exception):
                host = client().key_value_try_get(f"contrastive_jax/host/{index}")
            named.append(f"{index} ({host})" if host else str(index))
        return f"process{'es' if len(named) > 1 else ''} {', '.join(named)} of {self.count}"


ALONE = Group()
