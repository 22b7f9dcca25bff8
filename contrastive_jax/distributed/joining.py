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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from contrastive_jax.distributed.coordination import client
from contrastive_jax.distributed.launchers import several_processes
from contrastive_jax.distributed.lobby import meet
from contrastive_jax.distributed.place import Place
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.errors import FAILED, WRONG_INPUT, CommandError, InputError

_SECONDS_TO_CONNECT = 120  # once all have come


@dataclass(frozen=True)
class Limits:
    """connect_seconds: until all processes have found each other. lost_seconds: without a sign of life, until
    a process counts as lost and the others end. stalled_seconds: in one step, until all end (in the first
    one three times as long, and later at least four times the longest step so far)."""

    connect_seconds: int = 1800
    lost_seconds: int = 60
    stalled_seconds: int = 600

    def __post_init__(self) -> None:
        for name, least in (("connect_seconds", 1), ("lost_seconds", 5), ("stalled_seconds", 5)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}: give {least} or more")


@contextlib.contextmanager
def join(
    place: Place | None = None, limits: Limits = Limits(), waiting: Callable[[], None] = lambda: None
) -> Iterator[Group]:
    """Connects this process with the others of its run, before JAX looks for devices; `ALONE` without any.

    place: from flags; None finds out from the launcher's environment (`several_processes`). waiting: called
    while others are waited for; what it raises ends the wait. Leaving the `with` waits for the others, unless
    it is by an exception.

    Raises:
      InputError: the processes were started with flags that do not fit together, or a package is missing.
      CommandError: some have not come in time, or the coordinator cannot be used: starting again may help.
    """
    launcher = None if place else several_processes()
    if launcher is None and (place is None or place.count == 1):
        yield ALONE
        return
    place = place or _found(launcher, limits.connect_seconds)
    meet(place, limits.connect_seconds, waiting)
    group = _connect(place, limits)
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


def _found(launcher: str, seconds: int) -> Place:
    """The place of this process, as JAX reads it from what the launcher left."""
    from jax._src.clusters import ClusterEnv  # what `jax.distributed.initialize` asks; it has no public name

    if launcher == "Kubernetes" and not _importable("kubernetes"):
        raise InputError(
            "JAX asks Kubernetes for this pod's Job through a package that is not installed: "
            "pip install 'contrastive-jax[kubernetes]', or give --coordinator, --processes and --process-id"
        )
    coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS")
    given = os.environ.get("JAX_LOCAL_DEVICE_IDS")
    try:
        devices = [int(number) for number in given.split(",")] if given else None
        coordinator, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, None, None, devices, None, seconds
        )
        return Place(coordinator, int(count), int(index), launcher, devices and tuple(devices))
    except InputError:
        raise
    except Exception as error:  # of an API that is asked, too
        raise CommandError(
            f"{launcher} does not say the place of this process ({type(error).__name__}: {_line(error)}): "
            "start it again, or give --coordinator, --processes and --process-id"
        ) from error


def _connect(place: Place, limits: Limits) -> Group:
    import jax

    # Without the first the runtime would abort every process before it could say who is missing; the second
    # would take SIGTERM away from StopRequest.
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_enable_preemption_service", False)
    overdue = threading.Timer(_SECONDS_TO_CONNECT, _give_up, (place,))
    overdue.daemon = True
    overdue.start()
    try:
        if place.index:
            _reach(place)
        jax.distributed.initialize(
            coordinator_address=place.coordinator,
            num_processes=place.count,
            process_id=place.index,
            local_device_ids=place.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=_SECONDS_TO_CONNECT + 60,
            heartbeat_timeout_seconds=limits.lost_seconds,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise CommandError(f"{place} cannot be used ({_line(error)}): start all processes again") from error
    finally:
        overdue.cancel()
    group = Group(place.count, place.index, limits.lost_seconds, limits.stalled_seconds)
    client().key_value_set(f"contrastive_jax/host/{group.index}", socket.gethostname())
    return group


def _reach(place: Place) -> None:
    """Waits until the runtime of process 0 listens: that of this process would try again a second later."""
    while True:
        try:
            socket.create_connection((place.host, place.port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)


def _give_up(place: Place) -> None:
    print(
        f"contrastive-jax: {place}: all processes have come, and have not connected in "
        f"{_SECONDS_TO_CONNECT} s; start all of them again",
        file=sys.stderr,
        flush=True,
    )
    os._exit(FAILED)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0][:200]


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
