"""ArrayRecord files that hold records as `serialization` writes them."""

from __future__ import annotations

import collections
import hashlib
import itertools
import os
import re
import threading
from typing import TYPE_CHECKING, Any

from contrastive_jax.data import cache, files
from contrastive_jax.data.contents import Contents, of_files
from contrastive_jax.data.faults import RETRY_SECONDS, Access, asked, retried
from contrastive_jax.data.indexes import warn
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.serialization import decode, decode_values
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MANIFEST = "manifest.json"  # of the folder, by `data prepare`
_AT_ONCE = 1024  # records that a column is read by
_FIRST = 16  # records that tell whether a file holds any of ours
SYSTEM_CALL = re.compile(r"\b(open|p?read|lseek|fstat)\(\) failed")  # in what the library says
_KEPT_OPEN = 256  # files of one source at a time, as in `ranges.Parts`


class ArrayRecord:
    """A random-access source over the ArrayRecord files that ``data prepare`` writes.

    A record is what was encoded, with ``record``, its number; and ``key``, ``file/number`` where none was
    encoded. The library reads local files only: remote ones are fetched into the cache folder once, whole.

    Args:
        pattern: files: a path, a glob, braces, or a folder; local or remote.
        access: how files are read.

    Raises:
        InputError: there is no file or record, one is no ArrayRecord, or holds records of another kind.
    """

    def __init__(self, pattern: str, access: Access | None = None) -> None:
        self.name, self._arguments = f"arrayrecord:{pattern}", (pattern, access)
        self._seconds = access.retry_seconds if access else RETRY_SECONDS
        try:
            self._paths = files.expand(pattern, ".arrayrecord", beside=(MANIFEST,))
            paths = [_local(path) for path in self._paths]
            self._readers = Readers(paths)
            self._places = files.Places([self._readers[n].num_records() for n in range(len(paths))])
        except InputError as error:
            raise InputError(f"source {self.name!r}: {error}") from error
        self._names = files.names(self._paths, ".arrayrecord")
        if not len(self):
            raise InputError(f"source {self.name!r}: no record in {len(paths)} files")
        self._check_kind()

    def __reduce__(self) -> tuple[type[ArrayRecord], tuple[Any, ...]]:
        return ArrayRecord, self._arguments

    def __len__(self) -> int:
        return len(self._places)

    def _check_kind(self) -> None:
        """Raises InputError where none of the first records is one: then it is not that one is damaged."""
        broken = None
        for index in range(min(len(self), _FIRST)):
            try:
                self[index]
                return
            except BrokenRecord as error:
                broken = broken or error
        raise InputError(f"source {self.name!r}: {broken}; `data prepare` writes what is read here")

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record.

        Raises:
            BrokenRecord: it is damaged.
            StoreFault: it cannot be read.
            IndexError: there is none of this number.
        """
        file, row = self._places[index]
        record = decode(self._contents(file, [row])[0])
        record.setdefault("key", f"{self._names[file]}/{row}")
        record["record"] = index
        return record

    def contents(self) -> list[Contents]:
        """Its files."""
        return [of_files(self.name, len(self), self._paths)]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records; files are read through, but only headers decoded.

        Raises:
            KeyError: no record has it, or it is bytes or an array.
        """
        rows = range(len(self)) if rows is None else rows
        if name == "record":
            return rows
        values, seen = [], name == "key"
        for file, row, content in self._some(rows):
            try:
                record = decode_values(content)
            except BrokenRecord:
                record = {}
            seen |= name in record
            values.append(record.get(name, f"{self._names[file]}/{row}" if name == "key" else ""))
        if len(rows) and not seen:
            raise KeyError(name)
        return values

    def _contents(self, file: int, rows: list[int]) -> list[bytes]:
        def read() -> list[bytes]:
            try:
                contents = self._readers[file].read(rows)
            except Exception as error:  # the library raises ValueError, RuntimeError and IndexError
                if self._readers.fails(file, str(error)):
                    raise OSError(_line(error)) from error
                raise BrokenRecord(f"{self._names[file]}: cannot be read ({_line(error)})") from error
            # No bytes at all is what it gives of a file that was cut when it had been opened.
            if not all(contents) and self._readers.fails(file):
                raise OSError("it has changed")
            return contents

        return retried(read, self._readers.paths[file], self._seconds)

    def _some(self, wanted: Sequence[int]) -> Iterator[tuple[int, int, bytes]]:
        for start in range(0, len(wanted), _AT_ONCE):
            places = map(self._places.__getitem__, wanted[start : start + _AT_ONCE])
            for file, of in itertools.groupby(places, lambda place: place[0]):
                rows = [row for _, row in of]
                try:
                    contents = self._contents(file, rows)
                except BrokenRecord:
                    contents = [b""] * len(rows)
                yield from ((file, row, content) for row, content in zip(rows, contents))


class Readers:
    """The library's readers, by the numbers of their files; those used last stay open."""

    def __init__(self, paths: list[str]) -> None:
        self.paths, self._lock = paths, threading.Lock()
        self._stamps = [files.stamp(path) for path in paths]
        self._open: collections.OrderedDict[int, Any] = collections.OrderedDict()

    def __getitem__(self, number: int) -> Any:
        with self._lock:
            self._open[number] = self._open.pop(number, None) or _reader(self.paths[number])
            if len(self._open) > _KEPT_OPEN:
                self._open.popitem(last=False)  # it is closed when no thread reads it any more
            return self._open[number]

    def fails(self, number: int, error: str = "") -> bool:
        """Whether it is the disk's error, or the file is another one than it was; it is opened anew then."""
        changed = files.has_changed(self.paths[number], self._stamps[number])
        if changed or SYSTEM_CALL.search(error):
            with self._lock:
                self._open.pop(number, None)
            return True
        return False


def _reader(path: str) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    files.stamp(path)
    try:
        reader = ArrayRecordReader(path, options="readahead_buffer_size:0")
        if not reader.ok():
            reader.read([0])  # raises what is wrong
            raise ValueError("its end is missing")
    except Exception as error:  # see `_contents`
        raise InputError(f"{path} is no ArrayRecord file, or is torn ({_line(error)})") from error
    return reader


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _local(path: str) -> str:
    """The path, or that of its copy in the cache folder."""
    if not files.is_remote(path):
        return path
    mark = hashlib.sha256(f"{path} {files.stamp(path)}".encode()).hexdigest()[:24]
    copy = cache.folder() / "fetched" / mark / path.rsplit("/", 1)[-1]
    if not copy.exists():
        warn(f"fetching {path} into {copy.parent}")
        temporary = copy.with_name(f"{copy.name}.{os.getpid()}")
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            asked(lambda: files.filesystem(path).get_file(path, str(temporary)), path)
            os.replace(temporary, copy)
        except OSError as error:
            raise InputError(f"cannot fetch {path} ({error})") from error
        finally:
            temporary.unlink(missing_ok=True)
    return str(copy)
