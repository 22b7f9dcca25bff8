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
from typing import Any

from contrastive_jax.errors import FAILED

_SECONDS_BETWEEN_LOOKS = 2.0
_FAILED = "contrastive_jax/failed"
_LEFT = "contrastive_jax/left"
_LONGEST_WAIT = 1800.0  # for a process that is alive and late: compiling, rendering, reading a large file


class ProcessLost(RuntimeError):  # noqa: N818
    """Another process of the run has ended or cannot be reached; the message names it."""


class Group:
    """This process among those of the run; the only one where `count` is 1."""

    def __init__(self, count: int = 1, index: int = 0, lost_seconds: int = 60) -> None:
        self.count, self.index, self.lost_seconds = count, index, lost_seconds
        self._meetings = 0
        self._failing = self._ending = self._leaving = False
        self._deserted, self._ended = threading.Event(), threading.Event()

    @property
    def first(self) -> bool:
        """Whether this is process 0, which alone writes what one process must write."""
        return self.index == 0

    @property
    def name(self) -> str:
        return f"process {self.index} of {self.count}"

    def gather(self, value: Any, seconds: float = _LONGEST_WAIT) -> list[Any]:
        """The JSON values of all processes, in their order; every process calls it, in the same order.

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

    def tell(self, value: Any = None, seconds: float = _LONGEST_WAIT) -> Any:
        """What process 0 gave, in every process; it does not wait for the others.

        Raises:
          ProcessLost: process 0 did not come within the time.
        """
        if self.count == 1:
            return value
        key = f"{self._meeting()}/0"
        if self.first:
            client().key_value_set(key, json.dumps(value))
            return value
        try:
            return json.loads(client().blocking_key_value_get(key, int(seconds * 1000)))
        except RuntimeError as error:
            raise ProcessLost(f"{self._names([0])} was not heard of for {seconds:.0f} s") from error

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

    def barrier(self, name: str, seconds: float = _LONGEST_WAIT) -> None:
        """Waits for all processes; `name` is used once. ProcessLost names those that do not come in time."""
        if self.count == 1:
            return
        here = f"contrastive_jax/here/{name}"
        client().key_value_set(f"{here}/{self.index}", "")
        try:
            client().wait_at_barrier(f"contrastive_jax/{name}", int(seconds * 1000))
        except Exception as error:
            arrived = {int(key.rpartition("/")[2]) for key, _ in client().key_value_dir_get(here)}
            missing = [index for index in range(self.count) if index not in arrived]
            late = self._names(missing) if missing else "a process"
            raise ProcessLost(f"{late} did not reach {name!r} within {seconds:.0f} s") from error

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
        """Ends this process, in a thread, as soon as another one has failed or is not heard of any more."""
        threading.Thread(target=self._watch, daemon=True, name="watch").start()

    def end(self) -> None:
        """The orderly end, once every process has come to it."""
        import jax

        self.barrier("the end")
        self._ending = True
        if self.first:  # the others need its coordination service for their own end
            self._deserted.wait(self.lost_seconds)
        self._ended.set()
        jax.distributed.shutdown()

    def abandon(self) -> None:
        """After `fail`: process 0 gives the others, who need its coordination service, time to go."""
        self._ending = True
        if self.first:
            self._deserted.wait(3 * _SECONDS_BETWEEN_LOOKS)

    def _watch(self) -> None:
        asked, everyone = client(), list(range(self.count))
        while not self._ended.wait(0.1 if self._ending else _SECONDS_BETWEEN_LOOKS):
            try:
                failed = asked.key_value_dir_get(_FAILED)
                live = asked.get_live_nodes(everyone)
            except Exception:
                self._leave("process 0, the coordinator, cannot be reached")
                return
            for key, text in failed:
                message, code = json.loads(text)
                reason = f"process {key.rpartition('/')[2]} of {self.count} ended: {message}"
                self._leave(reason, code, missing=0)
            if set(live) == {self.index}:
                self._deserted.set()
            if missing := [index for index in everyone if index not in live]:
                self._leave(
                    f"{self._names(missing)} gave no sign of life for {self.lost_seconds} s; run the same "
                    "command again in every process to go on from the last checkpoint",
                    missing=len(missing),
                )

    def _leave(self, reason: str, code: int = FAILED, missing: int | None = None) -> None:
        """Ends this process; missing: how many give no sign of life, None where process 0 does not."""
        if not (self._failing or self._ending):
            self._leaving = True
            print(f"contrastive-jax: {self.name}: {reason}", file=sys.stderr, flush=True)
            if missing is not None:
                self._go_last(missing)
            os._exit(code)

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


def client() -> Any:
    """The runtime's client in this process: a key-value store and barriers."""
    # JAX has no public name for its key-value store and barriers; Orbax and others reach for it likewise.
    from jax._src import distributed

    return distributed.global_state.client
