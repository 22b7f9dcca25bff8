"""Where the processes of a run find each other, at the coordinator's address and before JAX's runtime starts.

The runtime aborts a process when another one does not come in time, says nothing of whom it misses, takes two
processes for one, and shares a port with whoever holds it. So process 0 listens there itself until all have
come, and each of the others says who it is and waits for its word.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from contrastive_jax.distributed.place import Place
from contrastive_jax.errors import CommandError, InputError

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_WORDS = 1.0
_SILENT = 10.0  # seconds after which a connection counts as broken
_TWINS = 3.0  # seconds after which an earlier connection of a process that was started again has ended
_LONGEST = 4096  # bytes of a message, without the names of missing processes
_RAISE = "or raise config.processes.connect_seconds"


def meet(place: Place, seconds: float, waiting: Callable[[], None] = lambda: None) -> None:
    """Returns when all processes have come; `waiting` is called meanwhile, and what it raises ends the wait.

    Raises:
      CommandError: some have not come in time, or the port is still held by another process.
      InputError: two have come with the same number, or with other counts; a port that is not allowed.
    """
    if place.count > 1:
        (_visit if place.index else _receive)(place, seconds, waiting)


@dataclass
class _Guest:
    """Another process, as process 0 knows it by its connection."""

    connection: socket.socket
    came: float
    heard: float
    text: bytes = b""
    index: int | None = None
    count: int = 0
    host: str = ""

    def listen(self, now: float) -> bool:
        """Whether the connection is still good."""
        with contextlib.suppress(BlockingIOError):
            try:
                data = self.connection.recv(_LONGEST)
            except ConnectionError:
                return False
            if not data or not self._understood(data):
                return False
            self.heard = now
        return now - self.heard < _SILENT

    def _understood(self, data: bytes) -> bool:
        if self.index is not None:
            return True
        self.text += data
        line, end, _ = self.text.partition(b"\n")
        if not end:
            return len(line) < _LONGEST
        with contextlib.suppress(ValueError, TypeError, KeyError):
            said = json.loads(line)
            self.index, self.count = int(said["process"]), int(said["processes"])
            self.host = str(said["host"])[:100]
        return self.index is not None

    def say(self, **words: Any) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(json.dumps(words).encode() + b"\n")


def _receive(place: Place, seconds: float, waiting: Callable[[], None]) -> None:
    until, told = time.monotonic() + seconds, 0.0
    guests: list[_Guest] = []
    with _listening(place, seconds, waiting) as server:
        try:
            while True:
                waiting()
                now = time.monotonic()
                guests = [guest for guest in [*guests, *_newcomers(server, now)] if _kept(guest, now)]
                _check(place, guests, now)
                missing = sorted({*range(1, place.count)} - {guest.index for guest in guests})
                if not missing:
                    for guest in guests:
                        guest.say(go=True)
                    return
                if now > until:
                    raise CommandError(_late(place, seconds, missing))
                if now > told + _SECONDS_BETWEEN_WORDS:
                    told = now
                    for guest in guests:
                        guest.say(missing=missing)
                time.sleep(0.05)
        except (InputError, CommandError) as error:
            for guest in guests:
                guest.say(**{"wrong" if isinstance(error, InputError) else "late": str(error)})
            raise
        finally:
            for guest in guests:
                guest.connection.close()


def _kept(guest: _Guest, now: float) -> bool:
    if good := guest.listen(now):
        return good
    guest.connection.close()
    return False


@contextlib.contextmanager
def _listening(place: Place, seconds: float, waiting: Callable[[], None]) -> Iterator[socket.socket]:
    """A server at the place's port, which an earlier run may hold for a while."""
    until, said = time.monotonic() + seconds, False
    while True:
        waiting()
        try:
            server = _server(place.port)
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InputError(f"{place}: {error.strerror}; give another port") from error
            if time.monotonic() > until:
                raise CommandError(
                    f"{place}: another process has held port {place.port} for {seconds:.0f} s: end it, give "
                    f"another port, {_RAISE}"
                ) from error
        if not said:
            log.warning("%s: another process holds port %d: waiting until it is free", place, place.port)
            said = True
        time.sleep(0.2)
    with server:
        server.setblocking(False)
        yield server


def _server(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise
    return socket.create_server(("", port), backlog=1024)


def _newcomers(server: socket.socket, now: float) -> Iterator[_Guest]:
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = server.accept()
            connection.setblocking(False)
            yield _Guest(connection, now, now)


def _check(place: Place, guests: list[_Guest], now: float) -> None:
    """Raises InputError where processes were started with flags that do not fit together."""
    by_index: dict[int, _Guest] = {}
    for guest in guests:
        if guest.index is None:
            continue
        if guest.count != place.count:
            raise InputError(
                f"--processes is {place.count} in process 0 and {guest.count} in process {guest.index} "
                f"({guest.host}): start all processes alike"
            )
        twin = by_index.setdefault(guest.index, guest)
        if twin is not guest and now - max(guest.came, twin.came) > _TWINS:
            raise InputError(
                f"two processes have come with --process-id {guest.index} ({twin.host} and {guest.host}): "
                "give each its own"
            )


def _visit(place: Place, seconds: float, waiting: Callable[[], None]) -> None:
    until, problem = time.monotonic() + seconds, "no answer"
    while time.monotonic() < until:
        waiting()
        try:
            with socket.create_connection((place.host, place.port), timeout=5) as connection:
                missing = _ask(connection, place, until, waiting)
            if missing == []:
                return
            if missing and time.monotonic() >= until:
                raise CommandError(_late(place, seconds, missing))
            problem = "something else answers there"
        except OSError as error:  # also a name that is not known yet
            problem = error.strerror or str(error)
        time.sleep(0.2)
    raise CommandError(
        f"{place} does not answer in {seconds:.0f} s ({problem}): start process 0 there, mend the address, "
        f"{_RAISE}"
    )


def _ask(
    connection: socket.socket, place: Place, until: float, waiting: Callable[[], None]
) -> list[int] | None:
    """Who was still missing when the connection or the time ended: nobody, or None where none is told."""
    greeting = {"process": place.index, "processes": place.count, "host": socket.gethostname()}
    connection.sendall(json.dumps(greeting).encode() + b"\n")
    connection.settimeout(_SECONDS_BETWEEN_WORDS)
    heard, text, missing = time.monotonic(), b"", None
    while time.monotonic() < min(until, heard + _SILENT):
        waiting()
        try:
            data = connection.recv(1 << 16)
        except TimeoutError:
            connection.sendall(b"\n")
            continue
        if not data:
            break
        heard = time.monotonic()
        *lines, text = (text + data).split(b"\n")
        for line in lines:
            try:
                said = dict(json.loads(line))
            except (ValueError, TypeError):
                return None
            if "wrong" in said:
                raise InputError(said["wrong"])
            if "late" in said:
                raise CommandError(said["late"])
            missing = [] if said.get("go") else said.get("missing")
            if missing == []:
                return missing
            connection.sendall(b"\n")
    return missing


def _late(place: Place, seconds: float, missing: list[int]) -> str:
    named = ", ".join(map(str, missing[:8])) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
    who, start = ("es", "are"), "start them"
    if len(missing) == 1:
        who, start = ("", "is"), "start it"
    return (
        f"{place}: not all processes have come within {seconds:.0f} s: process{who[0]} {named} of "
        f"{place.count} {who[1]} missing; {start}, {_RAISE}"
    )
