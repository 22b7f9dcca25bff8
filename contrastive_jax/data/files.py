"""Files by their paths, on this machine or in an object store: which there are, and parts of them.

A local path is opened and read as it is; ``s3://``, ``gs://`` and other addresses go through fsspec, with the
store's usual environment variables (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...).
"""

from __future__ import annotations

import bisect
import contextlib
import glob
import io
import itertools
import os
import re
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from contrastive_jax.data.patterns import expanded, walked
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://")
_PIECE = 1 << 24
_KEPT_OPEN = 256  # files of one source at a time; the soft limit of a process is often 1024


def is_remote(path: str) -> bool:
    """Whether a path is an address such as ``s3://bucket/name``."""
    return bool(_REMOTE.match(path))


def filesystem(path: str) -> Any:
    """The fsspec file system of a remote path (fsspec keeps one for each process).

    Raises:
        InputError: its library is not installed, or nothing knows the protocol.
    """
    import fsspec.core

    try:
        return fsspec.core.url_to_fs(path)[0]  # an address may name a host, which is the file system's
    except ImportError as error:
        raise InputError(f"{path}: {error}; pip install 'contrastive-jax[remote]'") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def expand(pattern: str, ending: str) -> list[str]:
    """The sorted paths that a pattern means: braces (``{0000..0003}``, ``{a,b}``), then globs.

    Args:
        pattern: a path, a glob, or braces; a folder means all files in it and below with the `ending`.
        ending: such as ``.tar``.

    Raises:
        InputError: there is no such file.
    """
    if not pattern:
        raise InputError(f"no path; write one after the colon, such as shards/*{ending}")
    paths = []
    for part in expanded(pattern):
        found = _remote_files(part, ending) if is_remote(part) else _local_files(part, ending)
        if not found:
            raise InputError(f"no file {part}")
        paths += found
    if not paths:
        raise InputError(f"{pattern} means no file: a range goes from the smaller number to the larger")
    return paths


def _local_files(path: str, ending: str) -> list[str]:
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return sorted(each for each in walked(path) if each.endswith(ending) and not os.path.isdir(each))
    else:
        found = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    return sorted(each for each in found if not os.path.isdir(each))


def _remote_files(path: str, ending: str) -> list[str]:
    with _naming(path):
        system = filesystem(path)
        system.invalidate_cache()
        if not glob.has_magic(path) and system.isfile(path):
            return [path]
        below = path if glob.has_magic(path) else f"{path.rstrip('/')}/**/*{ending}"
        found = system.glob(below, detail=True)
        return sorted(system.unstrip_protocol(name) for name, of in found.items() if of["type"] == "file")


def below(folder: str) -> list[str]:
    """Paths of the files below a folder, relative to it, without hidden ones.

    Raises:
        InputError: there is no such folder, or a part of it cannot be read.
    """
    with _naming(folder):
        if is_remote(folder):
            system = filesystem(folder)
            start = len(system._strip_protocol(folder)) + 1
            names = [name[start:] for name in system.find(folder)]
            return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        if not os.path.isdir(folder):
            raise FileNotFoundError(2, "no such folder", folder)
        found = []
        for inside, folders, names in os.walk(folder, onerror=_raised):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths = (os.path.join(inside, name) for name in names if not name.startswith("."))
            found += [os.path.relpath(path, folder) for path in paths]
        return found


def listed_sizes(folder: str) -> dict[str, int]:
    """{path relative to a remote folder: bytes} of all that is below it, in a few requests.

    Raises:
        InputError: it cannot be read.
    """
    with _naming(folder):
        system = filesystem(folder)
        start = len(system._strip_protocol(folder)) + 1
        return {name[start:]: of["size"] for name, of in system.find(folder, detail=True).items()}


def _raised(error: OSError) -> None:
    raise error


def read(path: str) -> bytes:
    """A whole file; OSError where that fails."""
    if is_remote(path):
        with as_os_error(path):
            return filesystem(path).cat_file(path)
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def stream(path: str) -> Iterator[BinaryIO]:
    """A file to be read from its beginning to its end, in large pieces where it is remote.

    Raises:
        InputError: it cannot be read.
    """
    with _naming(path):
        if is_remote(path):
            raw = filesystem(path).open(path, "rb", block_size=_PIECE, cache_type="readahead")
            with io.BufferedReader(raw, _PIECE) as file:
                yield file
        else:
            with open(path, "rb") as file:
                yield file


def stamp(path: str) -> list[Any]:
    """[size, what changes when the file does]: the time of change, or the object's etag.

    Raises:
        InputError: there is no such file, or it cannot be looked at.
    """
    if not is_remote(path):
        with _naming(path):
            status = os.stat(path)
        return [status.st_size, str(status.st_mtime_ns)]
    with _naming(path):
        details = filesystem(path).info(path)
    kept = [details.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified")]
    return [details["size"], str(next((value for value in kept if value), ""))]


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        with as_os_error(path):
            yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot read {path} ({reason})") from error


@contextlib.contextmanager
def as_os_error(path: str) -> Iterator[None]:
    """What a store or a format's library raises, of whatever kind, as OSError."""
    try:
        yield
    except (OSError, InputError, MemoryError):
        raise
    except Exception as error:  # every store has errors of its own
        reason = " ".join([f"{type(error).__name__}:", *str(error).splitlines()[:1]])
        raise OSError(f"{path}: {reason}") from error


class Parts:
    """Parts of some files, by number and offset; for threads and forked processes alike.

    Local files stay open (the first 256 of them) and are read by offset, so that nothing is shared but what
    the system shares safely. It pickles as its paths.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        self._remote = [is_remote(path) for path in self.paths]
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Parts], tuple[list[str]]]:
        return Parts, (self.paths,)

    def read(self, number: int, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length` of a file.

        Raises:
            OSError: they cannot be read, or the file ends before.
        """
        if self._remote[number]:
            path = self.paths[number]
            with as_os_error(path):
                content = filesystem(path).cat_file(path, start=start, end=start + length) if length else b""
        else:
            descriptor = self._open.get(number)
            if descriptor is not None:
                content = os.pread(descriptor, length, start)
            else:
                content = self._first_read(number, start, length)
        if len(content) != length:
            raise OSError(f"{self.paths[number]} ends at byte {start + len(content)}: it has changed")
        return content

    def _first_read(self, number: int, start: int, length: int) -> bytes:
        descriptor = os.open(self.paths[number], os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, length, start)
        finally:
            with self._lock:
                keep = len(self._open) < _KEPT_OPEN and number not in self._open
                if keep:
                    self._open[number] = descriptor
            if not keep:
                os.close(descriptor)

    def __del__(self) -> None:
        for descriptor in getattr(self, "_open", {}).values():
            with contextlib.suppress(OSError):
                os.close(descriptor)


class Places:
    """Where the records of several files lie, one file's after another's."""

    def __init__(self, counts: Sequence[int]) -> None:
        self._starts = [0, *itertools.accumulate(counts)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> tuple[int, int]:
        """(number of the file, number of the record in it); IndexError where there is no such record."""
        if not 0 <= index < self._starts[-1]:
            raise IndexError(f"record {index} of {self._starts[-1]}")
        file = bisect.bisect_right(self._starts, index) - 1
        return file, index - self._starts[file]

    def of_file(self, file: int) -> range:
        """The numbers of a file's records."""
        return range(self._starts[file], self._starts[file + 1])


def names(paths: Sequence[str], ending: str) -> list[str]:
    """Short names of files, different for different ones: their paths below the folder of all, no ending."""
    if len(paths) == 1:
        return [paths[0].rsplit("/", 1)[-1].removesuffix(ending)]
    shared = 0
    for parts in zip(*(path.split("/")[:-1] for path in paths)):
        if len(set(parts)) > 1:
            break
        shared += len(parts[0]) + 1
    return [path[shared:].removesuffix(ending) for path in paths]
