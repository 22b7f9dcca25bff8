"""Files that grow, in a store that knows no appending: written here, and put there whole now and then."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from contrastive_jax.errors import CommandError
from contrastive_jax.training.stores.paths import StorePath

log = logging.getLogger(__name__)

PUSH_SECONDS = 30.0
"""So often a file that grows is put into the store between two checkpoints."""


class Mirror:
    """A folder of this machine, `local`, that holds some of a store's folder while a run goes on.

    Args:
      remote: the store's folder.
      names: of files in it, and of folders.
    """

    def __init__(self, remote: StorePath, names: Sequence[str]) -> None:
        self._remote, self._names = remote, names
        self._folder = tempfile.TemporaryDirectory(prefix="contrastive_jax-")
        self.local = Path(self._folder.name)
        self._put: dict[str, tuple[int, int]] = {}
        self._lock, self._pushed_at = threading.Lock(), time.monotonic()
        self._thread: threading.Thread | None = None

    def fetch(self) -> None:
        """Brings here what is there."""
        for name in self._names:
            inside = [f"{name}/{below}" for below in (self._remote / name).files()]
            for each in inside or [name] * (self._remote / name).is_file():
                file = self.local / each
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes((self._remote / each).read_bytes())
                self._put[each] = _state(file)

    def push(self, hasty: bool = False) -> None:
        """Puts there what has changed here, and removes there what is gone here; then it is durable."""
        remote = self._remote.hasty if hasty else self._remote
        with self._lock:
            files = (path for name in self._names for path in _files(self.local / name))
            now = {path.relative_to(self.local).as_posix(): path for path in files}
            for name, path in now.items():
                if self._put.get(name) != (state := _state(path)):
                    (remote / name).write_bytes(path.read_bytes())
                    self._put[name] = state
            for name in self._put.keys() - now.keys():
                (remote / name).unlink(missing_ok=True)
                del self._put[name]
            self._pushed_at = time.monotonic()

    def push_now_and_then(self) -> None:
        """The same in a thread, when the last time is long enough ago; a fault is told and tried again."""
        busy = self._thread is not None and self._thread.is_alive()
        if not busy and time.monotonic() - self._pushed_at >= PUSH_SECONDS:
            self._pushed_at = time.monotonic()
            self._thread = threading.Thread(target=self._push_if_it_goes, daemon=True, name="mirror")
            self._thread.start()

    def _push_if_it_goes(self) -> None:
        try:
            self.push(hasty=True)
        except (OSError, CommandError) as error:
            log.warning("%s is not up to date: %s", self._remote, error)


def _files(path: Path) -> list[Path]:
    found = path.rglob("*") if path.is_dir() else [path]
    return sorted(file for file in found if file.is_file())


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
