"""Files that one process at a time may write: locks, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from contrastive_jax.errors import CommandError

log = logging.getLogger(__name__)

SECONDS_TO_LEAVE = 5.0
"""So long is waited for a process that was killed, and whose successor is here already."""


def locked(path: Path, what: str) -> IO[bytes]:
    """The lock file `path`, made and held until it is closed or the process dies.

    what: the flag and value that are held by it, as the message names them.

    Raises:
      CommandError: another process holds it and does not leave.
      OSError: it cannot be made.
    """
    until = time.monotonic() + SECONDS_TO_LEAVE
    while True:
        file = open(path, "ab")  # noqa: SIM115 (held open on purpose)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(file, path):
                return file
        except BlockingIOError:
            if time.monotonic() > until:
                file.close()
                raise CommandError(
                    f"{what} is in use by another process: wait for it, stop it, or give another"
                ) from None
        except OSError as error:
            log.warning("%s cannot be locked (%s): make sure that one process uses it", what, error.strerror)
            return file
        file.close()
        time.sleep(0.1)


@contextlib.contextmanager
def held(output: Path, what: str) -> Iterator[None]:
    """Nobody else writes the file `output` meanwhile: by a hidden lock beside it, which goes at the end.

    Raises as `locked` does.
    """
    path = output.with_name(f".{output.name}.lock")
    with locked(path, what) as file:
        try:
            yield
        finally:
            if _is(file, path):
                path.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all, whenever the process dies, and whoever writes it too.

    Raises:
      OSError: it cannot be written; what was there stays.
    """
    partial = partial_path(path)
    with _alone(partial) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def partial_path(file: Path) -> Path:
    """Where a file lies until it is whole."""
    return file.with_name(f".{file.name}.partial")


def _alone(path: Path) -> IO[bytes]:
    """An empty file at a path at which nobody else writes; who waits for it makes a new one."""
    while True:
        file = open(path, "ab")  # noqa: SIM115 (closed by who called)
        with contextlib.suppress(OSError):  # of a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if _is(file, path):
            file.truncate(0)
            return file
        file.close()


def _is(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
