"""Parts of files by their place: of a local one through a descriptor, of a remote one a request each.

What cannot be read is tried again, and then it is a fault of the store.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from typing import TYPE_CHECKING, Any

from contrastive_jax.data.faults import RETRY_SECONDS, asked, retried
from contrastive_jax.data.remote import filesystem, is_remote
from contrastive_jax.named_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEPT_OPEN = 256  # files of one source at a time; the soft limit of a process is often 1024
_LARGE = 1 << 20


class Parts:
    """Parts of some files, by number and offset; for threads and forked processes alike.

    Local files stay open (the first 256 of them) and are read by offset, so that nothing is shared but what
    the system shares safely. It pickles as its paths.

    Args:
        paths: of the files.
        seconds: how long a part that cannot be read is tried again.
    """

    def __init__(self, paths: Sequence[str], seconds: float = RETRY_SECONDS) -> None:
        self.paths, self._seconds = list(paths), seconds
        self._remote = [is_remote(path) for path in self.paths]
        self._open: dict[int, int] = {}
        self._stale: list[int] = []
        self._seen: dict[int, tuple[int, int]] = {}  # size and time of change when it was opened first
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Parts], tuple[Any, ...]]:
        return Parts, (self.paths, self._seconds)

    def read(self, number: int, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length` of a file.

        Raises:
            StoreFault: they cannot be read, or the file ends before.
        """
        path = self.paths[number]
        if self._remote[number]:
            return _part(filesystem(path), path, start, length, self._seconds) if length else b""
        try:
            return self._local(number, start, length)
        except OSError:
            return retried(lambda: self._again(number, start, length), path, self._seconds)

    def _local(self, number: int, start: int, length: int) -> bytes:
        descriptor = self._open.get(number)
        if descriptor is None:
            return self._first_read(number, start, length)
        return _pread(descriptor, start, length)

    def _again(self, number: int, start: int, length: int) -> bytes:
        """The file opened anew: the handle of a file on a network may be stale for ever."""
        with self._lock:
            if number in self._open:
                self._stale.append(self._open.pop(number))  # another thread may be reading from it
        return self._first_read(number, start, length)

    def _first_read(self, number: int, start: int, length: int) -> bytes:
        descriptor = open_regular(self.paths[number])
        keep = False
        try:
            status = os.fstat(descriptor)
            marks = status.st_size, status.st_mtime_ns
            if self._seen.setdefault(number, marks) != marks:
                raise OSError("it has changed since it was opened first")
            content = _pread(descriptor, start, length)
            with self._lock:
                keep = len(self._open) < _KEPT_OPEN and number not in self._open
                if keep:
                    self._open[number] = descriptor
            return content
        finally:
            if not keep:
                os.close(descriptor)

    def __del__(self) -> None:
        for descriptor in (*getattr(self, "_open", {}).values(), *getattr(self, "_stale", ())):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _pread(descriptor: int, start: int, length: int) -> bytes:
    if length > _LARGE and (size := os.fstat(descriptor).st_size) < start + length:
        raise OSError(f"it ends at byte {size}: it has changed")  # before so much memory is taken
    return _whole(os.pread(descriptor, length, start), start, length)


class Ranges(io.RawIOBase):
    """A remote file, each part of it read by a request of its own, which is made again where it fails."""

    def __init__(self, path: str, seconds: float = RETRY_SECONDS) -> None:
        self._path, self._seconds, self._at = path, seconds, 0
        self._system = filesystem(path)
        self._size = asked(lambda: self._system.info(path)["size"], path, seconds)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        content = _part(self._system, self._path, self._at, length, self._seconds)
        buffer[:length] = content
        self._at += length
        return length


def _part(system: Any, path: str, start: int, length: int, seconds: float) -> bytes:
    def read() -> bytes:
        content = system.cat_file(path, start=start, end=start + length)
        return _whole(content, start, length)

    return retried(read, path, seconds)


def _whole(content: bytes, start: int, length: int) -> bytes:
    if len(content) != length:
        raise OSError(f"it ends at byte {start + len(content)}: it has changed")
    return content
