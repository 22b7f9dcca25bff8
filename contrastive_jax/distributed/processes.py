"""The processes of one run: started together, watched, and ended together.

JAX's own runtime does the work: its coordination service, in process 0, connects the processes, holds what
they tell each other, and notices by missing heartbeats when one is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contrastive_jax.distributed.launchers import several_processes
from contrastive_jax.errors import FAILED, WRONG_INPUT, InputError

_SECONDS_BETWEEN_LOOKS = 2.0
_FAILED = "contrastive_jax/failed"
_LONGEST_WAIT = 1800.0  # for a process that is alive and late: compiling, rendering, reading a large file


class ProcessLost(RuntimeError):  # noqa: N818
    """Another process of the run has ended or cannot be reached; the message names it."""


@dataclass(frozen=True)
class Limits:
    """connect_seconds: until all processes have found each other. lost_seconds: without a sign of life, until
    a process counts as lost and the others end."""

    connect_seconds: int = 300
    lost_seconds: int = 60

    def __post_init__(self) -> None:
        for name, least in (("connect_seconds", 1), ("lost_seconds", 5)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}: give {least} or more")


@dataclass(frozen=True)
class Place:
    """What the launcher's flags say: the coordinator's host:port, how many processes, which one this is."""

    coordinator: str
    count: int
    index: int

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise InputError(f"--coordinator {self.coordinator}: give host:port of process 0")
        if self.count < 1:
            raise InputError(f"--processes {self.count}: give 1 or more")
        if not 0 <= self.index < self.count:
            raise InputError(
                f"--process-id {self.index}: give 0 to {self.count - 1} (--processes {self.count})"
            )


class Group:
    """This process among those of the run; the only one where `count` is 1."""

    def __init__(self, count: int = 1, index: int = 0, lost_seconds: int = 60) -> None:
        self.count, self.index, self.lost_seconds = count, index, lost_seconds
        self._meetings = 0
        self._failing = self._ending = False
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
        self._meetings += 1
        folder = f"contrastive_jax/meeting/{self._meetings}"
        _client().key_value_set(f"{folder}/{self.index}", json.dumps(value))
        self.barrier(folder, seconds)
        return [
            json.loads(_client().blocking_key_value_get(f"{folder}/{index}", 60_000))
            for index in range(self.count)
        ]

    def tell(self, value: Any = None, seconds: float = _LONGEST_WAIT) -> Any:
        """What process 0 gave, in every process."""
        return self.gather(value if self.first else None, seconds)[0]

    def barrier(self, name: str, seconds: float = _LONGEST_WAIT) -> None:
        """Waits for all processes; `name` is used once. ProcessLost names those that do not come in time."""
        if self.count == 1:
            return
        here = f"contrastive_jax/here/{name}"
        _client().key_value_set(f"{here}/{self.index}", "")
        try:
            _client().wait_at_barrier(f"contrastive_jax/{name}", int(seconds * 1000))
        except Exception as error:
            arrived = {int(key.rpartition("/")[2]) for key, _ in _client().key_value_dir_get(here)}
            missing = [index for index in range(self.count) if index not in arrived]
            late = self._names(missing) if missing else "a process"
            raise ProcessLost(f"{late} did not reach {name!r} within {seconds:.0f} s") from error

    def fail(self, message: str, code: int) -> None:
        """Tells the other processes why this one ends and with what code, and waits until they know."""
        if self.count == 1 or self._failing:
            return
        self._failing = True
        with contextlib.suppress(Exception):
            _client().key_value_set(f"{_FAILED}/{self.index}", json.dumps([message, code]))
            until = time.monotonic() + 3 * _SECONDS_BETWEEN_LOOKS
            while time.monotonic() < until and len(_client().key_value_dir_get(_FAILED)) < self.count:
                time.sleep(0.1)

    def lost(self) -> None:
        """After an error that a lost process may have caused: returns if none is missed in time."""
        if self.count > 1:
            time.sleep(self.lost_seconds + 3 * _SECONDS_BETWEEN_LOOKS)

    def watch(self) -> None:
        """Ends this process, in a thread, as soon as another one has failed or is not heard of any more."""
        threading.Thread(target=self._watch, daemon=True, name="watch").start()

    def end(self) -> None:
        """The orderly end, once every process has come to it; after `fail`, without waiting for all."""
        import jax

        if not self._failing:
            self.barrier("the end")
        self._ending = True
        if self.first:  # the others need its coordination service for their own end
            self._deserted.wait(3 * _SECONDS_BETWEEN_LOOKS if self._failing else self.lost_seconds)
        self._ended.set()
        jax.distributed.shutdown()

    def _watch(self) -> None:
        client, everyone = _client(), list(range(self.count))
        while not self._ended.wait(0.1 if self._ending else _SECONDS_BETWEEN_LOOKS):
            try:
                failed = client.key_value_dir_get(_FAILED)
                live = client.get_live_nodes(everyone)
            except Exception:
                self._leave("process 0, the coordinator, cannot be reached")
                return
            for key, text in failed:
                message, code = json.loads(text)
                self._leave(f"process {key.rpartition('/')[2]} of {self.count} ended: {message}", code)
            if set(live) == {self.index}:
                self._deserted.set()
            if missing := [index for index in everyone if index not in live]:
                self._leave(
                    f"{self._names(missing)} gave no sign of life for {self.lost_seconds} s; run the same "
                    "command again in every process to go on from the last checkpoint"
                )

    def _wait_for_leaving(self) -> None:
        """Process 0 holds the coordinator: the runtime aborts a process whose coordinator goes before it."""
        until = time.monotonic() + self.lost_seconds
        everyone = list(range(self.count))
        with contextlib.suppress(Exception):
            while time.monotonic() < until and len(_client().get_live_nodes(everyone)) > 1:
                time.sleep(0.1)

    def _leave(self, reason: str, code: int = FAILED) -> None:
        if not (self._failing or self._ending):
            print(f"contrastive-jax: {self.name}: {reason}", file=sys.stderr, flush=True)
            os._exit(code)

    def _names(self, indices: list[int]) -> str:
        """`process 2 (host-c) of 4`, as far as a process has said where it runs."""
        named = []
        for index in indices:
            host = None
            with contextlib.suppress(Exception):
                host = _client().key_value_try_get(f"contrastive_jax/host/{index}")
            named.append(f"{index} ({host})" if host else str(index))
        return f"process{'es' if len(named) > 1 else ''} {', '.join(named)} of {self.count}"


ALONE = Group()


@contextlib.contextmanager
def join(place: Place | None = None, limits: Limits = Limits()) -> Iterator[Group]:
    """Connects this process with the others of its run, before JAX looks for devices; `ALONE` without any.

    place: from flags; None finds out from the launcher's environment (`several_processes`). Leaving the
    `with` waits for the others, unless it is by an exception.

    Raises:
      InputError: the coordinator does not answer, or the launcher's environment is not what it should be.
    """
    launcher = None if place else several_processes()
    if launcher is None and (place is None or place.count == 1):
        yield ALONE
        return
    group = _connect(place, launcher, limits)
    group.watch()
    try:
        yield group
    except BaseException as error:
        group.fail(f"{type(error).__name__}: {error}", FAILED)
        group.end()
        raise
    group.end()


def _connect(place: Place | None, launcher: str | None, limits: Limits) -> Group:
    import jax

    # Without the first the runtime would abort every process before it could say who is missing; the second
    # would take SIGTERM away from StopRequest.
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_enable_preemption_service", False)
    explicit: Mapping[str, Any] = {}
    if place:
        explicit = {
            "coordinator_address": place.coordinator,
            "num_processes": place.count,
            "process_id": place.index,
            "cluster_detection_method": "deactivate",
        }
        if place.index:
            _reach(place.coordinator, limits.connect_seconds)
        else:
            _check_free(place.coordinator)
    where = f"--coordinator {place.coordinator}" if place else f"the coordinator, as {launcher} has it"
    overdue = threading.Timer(limits.connect_seconds, _give_up, (where, limits.connect_seconds))
    overdue.daemon = True
    overdue.start()
    try:
        jax.distributed.initialize(
            **explicit,
            initialization_timeout=limits.connect_seconds + 60,
            heartbeat_timeout_seconds=limits.lost_seconds,
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise InputError(
            f"{where} cannot be used ({reason}): give a free port of process 0's host"
        ) from error
    finally:
        overdue.cancel()
    group = Group(*_count_and_index(), limits.lost_seconds)
    _client().key_value_set(f"contrastive_jax/host/{group.index}", socket.gethostname())
    return group


def _reach(coordinator: str, seconds: float) -> None:
    """Waits until process 0 listens: the runtime itself would abort where it does not."""
    host, _, port = coordinator.rpartition(":")
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise InputError(
                    f"--coordinator {coordinator} does not answer in {seconds:.0f} s ({error}): start "
                    "process 0 there, mend the address, or raise config.processes.connect_seconds"
                ) from error
        time.sleep(0.2)


def _check_free(coordinator: str) -> None:
    try:
        socket.create_server(("", int(coordinator.rpartition(":")[2]))).close()
    except OSError as error:
        raise InputError(f"--coordinator {coordinator}: {error.strerror}; give a free port") from error


def _give_up(where: str, seconds: float) -> None:
    print(
        f"contrastive-jax: {where}: not all processes have come within {seconds:.0f} s; start those that are "
        "missing, or raise config.processes.connect_seconds",
        file=sys.stderr,
        flush=True,
    )
    os._exit(WRONG_INPUT)


def _client() -> Any:
    # JAX has no public name for its key-value store and barriers; Orbax and others reach for it likewise.
    from jax._src import distributed

    return distributed.global_state.client


def _count_and_index() -> tuple[int, int]:
    # Not jax.process_count(), which would start the devices and wait for those of the other processes.
    from jax._src import distributed

    return distributed.global_state.num_processes, distributed.global_state.process_id
