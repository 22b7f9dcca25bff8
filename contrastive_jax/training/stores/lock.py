"""A lock in an object store: an object that only one can create, and whose holder shows that it lives."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from contrastive_jax.errors import FAILED, CommandError
from contrastive_jax.training.stores.paths import StorePath

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
"""So often the holder writes its lock again."""
EXPIRES_SECONDS = 60.0
"""A lock that nobody has written for so long is one of a process that is gone."""


class StoreLock:
    """`<folder>/.lock`, held until `close`; a thread writes it again and again.

    A lock whose process was killed is taken over: at once where that process is known to be gone (it was
    one of this machine), else when it has been watched for 60 s and has not changed. A process that finds
    its own lock taken over, after having been cut off for longer, ends with exit code 1.

    Raises:
      CommandError: another process holds it.
      FileNotFoundError, PermissionError, StoreFault: as the store says.
    """

    def __init__(self, folder: StorePath) -> None:
        self._folder, self._object = folder, folder / ".lock"
        self._owner = {"owner": uuid.uuid4().hex, "host": platform.node(), **_this_process()}
        self._beats, self._ended = 0, threading.Event()
        self._take()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lock")
        self._thread.start()

    def close(self) -> None:
        """Lets another process have the folder."""
        self._ended.set()
        self._thread.join()
        try:
            if self._holder(self._object.hasty) == self._owner["owner"]:
                self._object.hasty.unlink(missing_ok=True)
        except (OSError, CommandError) as error:
            log.warning("%s could not be removed, and is taken over later: %s", self._object, error)

    def _content(self) -> bytes:
        self._beats += 1
        return json.dumps({**self._owner, "beat": self._beats}).encode()

    def _take(self) -> None:
        while True:
            try:
                self._object.create(self._content())
            except FileExistsError:
                if self._holder(self._object) != self._owner["owner"]:  # else the answer was lost
                    self._remove_if_left()
                    continue
            break
        try:
            self._object.create(self._content())
        except FileExistsError:
            return
        log.warning(
            "%s knows no locks (it creates an object that is there): make sure that only one run uses %s",
            self._folder.bucket,
            self._folder,
        )

    def _remove_if_left(self) -> None:
        """Returns when the lock that is there was one of a process that is gone; CommandError otherwise."""
        first = self._read()
        begin = time.monotonic()
        if first and not _gone(first):
            log.info(
                "%s is locked by process %s of %s: seeing for up to %.0f s whether it lives",
                *(self._folder, first.get("pid"), first.get("host"), EXPIRES_SECONDS),
            )
        while first and not _gone(first) and time.monotonic() - begin < EXPIRES_SECONDS:
            time.sleep(min(BEAT_SECONDS, EXPIRES_SECONDS) / 10)
            now = self._read()
            if now != first:
                if now is None:
                    return
                raise CommandError(
                    f"--workdir {self._folder} is in use by another process ({now.get('pid')} of "
                    f"{now.get('host')}): wait for it, stop it, or give another folder"
                )
        if first and self._read() == first:
            log.warning("%s: process %s of %s is gone", self._folder, first.get("pid"), first.get("host"))
            self._object.unlink(missing_ok=True)

    def _read(self, path: StorePath | None = None) -> dict[str, Any] | None:
        try:
            return json.loads((path or self._object).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}

    def _holder(self, path: StorePath) -> str | None:
        return (self._read(path) or {}).get("owner")

    def _beat(self) -> None:
        told = False
        while not self._ended.wait(BEAT_SECONDS):
            try:
                if self._holder(self._object.hasty) != self._owner["owner"]:
                    self._leave()
                self._object.hasty.write_bytes(self._content())
                told = False
            except (OSError, CommandError) as error:
                if not told:
                    log.warning("%s could not be renewed: %s", self._object, error)
                told = True

    def _leave(self) -> None:
        """Whoever took it over writes there now: nothing more must come from here."""
        print(
            f"contrastive-jax: --workdir {self._folder} has been taken over by another process, since this "
            f"one could not renew its lock for {EXPIRES_SECONDS:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        os._exit(FAILED)


def _this_process() -> dict[str, Any]:
    """What tells this process from any other that has been or will be, as far as this machine can say."""
    return {"pid": os.getpid(), "machine": _machine(), "started": _started(os.getpid())}


def _machine() -> str | None:
    """This boot of this machine, and which of its processes can be seen."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # ended, and not waited for by its parent
    except (OSError, IndexError):
        return None


def _gone(holder: dict[str, Any]) -> bool:
    """Whether the process of a lock was one of this machine and certainly runs no more."""
    here = _machine()
    return here is not None and holder.get("machine") == here and _started(holder["pid"]) != holder["started"]
