"""Finding the other processes of a run, from a launcher's environment or from flags."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contrastive_jax.distributed.coordination import client
from contrastive_jax.distributed.launchers import several_processes
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.errors import FAILED, WRONG_INPUT, InputError


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
        code = WRONG_INPUT if isinstance(error, InputError) else FAILED
        group.fail(f"{type(error).__name__}: {error}", code)
        group.abandon()
        atexit.register(os._exit, code)  # the runtime aborts a process that leaves it while others are lost
        raise
    group.end()


def _connect(place: Place | None, launcher: str | None, limits: Limits) -> Group:
    import jax

    if launcher == "Kubernetes" and not _importable("kubernetes"):
        raise InputError(
            "JAX asks Kubernetes for this pod's Job through a package that is not installed: "
            "pip install 'contrastive-jax[kubernetes]', or give --coordinator, --processes and --process-id"
        )
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
    client().key_value_set(f"contrastive_jax/host/{group.index}", socket.gethostname())
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


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _count_and_index() -> tuple[int, int]:
    # Not jax.process_count(), which would start the devices and wait for those of the other processes.
    from jax._src import distributed

    return distributed.global_state.num_processes, distributed.global_state.process_id
