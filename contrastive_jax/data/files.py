"""Files by their paths, on this machine or in an object store: which there are, and parts of them.

A local path is opened and read as it is; ``s3://``, ``gs://`` and other addresses go through fsspec, with the
store's usual environment variables (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...).
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import glob
import io
import itertools
import logging
import multiprocessing
import os
from typing import TYPE_CHECKING, Any, BinaryIO

from contrastive_jax.data.faults import as_os_error, asked, fault, is_passing, reason_of
from contrastive_jax.data.patterns import expanded, walked
from contrastive_jax.data.ranges import Ranges
from contrastive_jax.data.remote import check_address, filesystem, is_remote
from contrastive_jax.errors import InputError
from contrastive_jax.named_files import check_regular, open_regular, read_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_log = logging.getLogger(__name__)
_PIECE = 1 << 24
_ENDINGS_TOLD = 6


def expand(pattern: str, *endings: str, beside: Collection[str] = ()) -> list[str]:
    """The sorted paths that a pattern means: braces (``{0000..0003}``, ``{a,b}``), then globs.

    Args:
        pattern: a path, a glob, or braces; a folder means all files in it and below with one of `endings`, in
            upper or lower case. A warning counts others.
        endings: such as ``.tar``.
        beside: names of files that belong into such a folder and that no warning counts.

    Raises:
        InputError: there is no such file, or a folder has none of these endings.
    """
    if not pattern:
        raise InputError(f"no path; write one after the colon, such as shards/*{endings[0]}")
    paths = []
    for part in expanded(pattern):
        check_address(part)
        found, is_folder = _remote_files(part) if is_remote(part) else _local_files(part)
        if is_folder:
            found = _ended(part, found, endings, beside)
        if not found:
            raise InputError(f"no file {part}")
        for each in found:
            _check_file(each)
        paths += found
    if not paths:
        raise InputError(f"{pattern} means no file: a range goes from the smaller number to the larger")
    return paths


def _ended(folder: str, found: Sequence[str], endings: tuple[str, ...], beside: Collection[str]) -> list[str]:
    """The files of a folder that end so; InputError where all others do not."""
    taken = [each for each in found if each.lower().endswith(endings)]
    others = [each for each in set(found).difference(taken) if os.path.basename(each) not in beside]
    if others and not taken:
        raise InputError(f"{folder}: {_left_out(others, endings)}")
    tell_left_out(folder, others, endings)
    return taken


def tell_left_out(folder: str, paths: Collection[str], endings: Sequence[str]) -> None:
    """One warning that counts the files of a folder that are not read, by their endings."""
    if paths and multiprocessing.parent_process() is None:
        _log.warning("%s: %s", folder, _left_out(paths, endings))


def _left_out(paths: Collection[str], endings: Sequence[str]) -> str:
    counts = collections.Counter(os.path.splitext(path)[1].lower() or "none" for path in paths)
    listed = ", ".join(f"{ending} {count}" for ending, count in counts.most_common(_ENDINGS_TOLD))
    wanted = ", ".join(ending.lstrip(".") for ending in endings)
    return f"{len(paths)} files are left out, for their endings ({listed}); what is read: {wanted}"


def _check_file(path: str) -> None:
    if is_remote(path):
        check_address(path)
    else:
        with _naming(path):
            check_regular(path)


def _local_files(path: str) -> tuple[list[str], bool]:
    """What is there, and whether it is what a folder holds."""
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return sorted(walked(path)), True
    found = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    return sorted(each for each in found if not os.path.isdir(each)), False


def _remote_files(path: str) -> tuple[list[str], bool]:
    """What is there, and whether it is what a folder holds."""
    system = filesystem(path)

    def listed() -> tuple[list[str], bool]:
        system.invalidate_cache()
        magic = glob.has_magic(path)
        if not magic:
            with contextlib.suppress(FileNotFoundError):
                if system.info(path)["type"] == "file":
                    return [path], False
        found = system.glob(path, detail=True) if magic else system.find(path, detail=True)
        names = sorted(system.unstrip_protocol(name) for name, of in found.items() if of["type"] == "file")
        return names, not magic

    with _naming(path):
        try:
            return asked(listed, path)
        except FileNotFoundError:
            return [], False


def below(folder: str, links: bool = False) -> list[str]:
    """Paths of the files below a folder, relative to it, without hidden ones.

    Args:
        folder: local or remote.
        links: whether to look behind links to folders too.

    Raises:
        InputError: there is no such folder, or a part of it cannot be read.
    """
    with _naming(folder):
        if is_remote(folder):
            system = filesystem(folder)
            start = len(system._strip_protocol(folder)) + 1
            names = [name[start:] for name in asked(lambda: system.find(folder), folder)]
            return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        if not os.path.isdir(folder):
            raise FileNotFoundError(2, "no such folder", folder)
        return [os.path.relpath(path, folder) for path in walked(folder, links, strict=True)]


def listed_sizes(folder: str) -> dict[str, int]:
    """{path relative to a remote folder: bytes} of all that is below it, in a few requests.

    Raises:
        InputError: it cannot be read.
    """
    with _naming(folder):
        system = filesystem(folder)
        start = len(system._strip_protocol(folder)) + 1
        return {name[start:]: of["size"] for name, of in system.find(folder, detail=True).items()}


def read(path: str) -> bytes:
    """A whole file that the user names.

    Raises:
        OSError: it cannot be read.
        InputError: it is no regular file, or no address of a store.
        StoreFault: the store fails, again and again.
    """
    if is_remote(path):
        return asked(lambda: filesystem(path).cat_file(path), path)
    return read_regular(path, limit=None)


@contextlib.contextmanager
def stream(path: str) -> Iterator[BinaryIO]:
    """A file to be read from its beginning to its end, in large pieces where it is remote.

    Raises:
        InputError: it cannot be read.
        StoreFault: the store fails.
    """
    with _naming(path):
        if is_remote(path):
            with io.BufferedReader(Ranges(path), _PIECE) as file:
                yield file
        else:
            with os.fdopen(open_regular(path), "rb") as file:
                yield file


def stamp(path: str) -> list[Any]:
    """[size, what changes when the file does]: the time of change, or the object's etag.

    Raises:
        InputError: there is no such file, or it cannot be looked at.
        StoreFault: the store fails, again and again.
    """
    if not is_remote(path):
        with _naming(path):
            status = os.stat(path)
        return [status.st_size, str(status.st_mtime_ns)]
    with _naming(path):
        details = asked(lambda: filesystem(path).info(path), path)
    kept = [details.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified")]
    return [details["size"], str(next((value for value in kept if value), ""))]


def has_changed(path: str, before: list[Any]) -> bool:
    """Whether a file is gone, or its `stamp` is another one than before."""
    try:
        return stamp(path) != before
    except InputError:
        return True


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        with as_os_error(path):
            yield
    except OSError as error:
        if is_passing(error):
            raise fault(path, error) from error
        raise InputError(f"cannot read {path} ({reason_of(error, path)})") from error


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
