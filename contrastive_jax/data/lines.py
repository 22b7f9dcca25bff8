"""Records listed in files of lines, JSON or others, with or without pictures that lie beside them."""

from __future__ import annotations

import array
import contextlib
import csv
import io
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np

from contrastive_jax.data import files
from contrastive_jax.data.bounds import LINE_BYTES, check_record
from contrastive_jax.data.columns import column
from contrastive_jax.data.contents import Contents, of_files
from contrastive_jax.data.faults import Access
from contrastive_jax.data.indexes import indexed
from contrastive_jax.data.named import Named, allowed
from contrastive_jax.data.ranges import Parts
from contrastive_jax.data.records import BrokenRecord, flatten
from contrastive_jax.data.unpacking import WORTH_KEEPING, unpack
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOKED_AT = 4  # lines that tell whether a file is of lines
_BEFORE = b" \t\r\xef\xbb\xbf"  # white space, and the mark of UTF-8
_PATH_FIELDS = ("image", "file_name")


class Lines(ABC):
    """What JSON lines and CSV have in common: a record is a piece of a text file.

    Only the offsets of the records are kept in memory. A file that ends in ``.gz`` is unpacked: into memory
    where it is small, else into the cache folder, once. It may become 100 times as large, or 256 MiB.

    Args:
        pattern: files: a path, a glob, braces, or a folder; local or remote.
        image: the field that holds the path of the picture, relative to the file. By default ``image`` or
            ``file_name``, where a record has one as a string. It may be a ``data:`` URI as well.
        allow: stores (``https``), divided by commas, whose addresses may stand there; ``links``: a link may
            leave the folder of the file.
        access: of what is read.

    Raises:
        InputError: a file cannot be read, or there is no record.
    """

    kind: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]

    def __init__(self, pattern: str, image: str = "", allow: str = "", access: Access | None = None) -> None:
        self._access = access or Access()
        self.name, self._arguments = f"{self.kind}:{pattern}", (pattern, image, allow, self._access)
        self._image = image
        try:
            self._allow = allowed(allow)
            self._paths = files.expand(pattern, *self.endings)
            unpacked = {path: unpack(path) for path in self._paths if path.lower().endswith(".gz")}
            self._unpacked = {path: each for path, each in unpacked.items() if isinstance(each, bytes)}
            self._read_from = [
                path if path in self._unpacked else unpacked.get(path, path) for path in self._paths
            ]
            self._index = [self._indexed(number) for number in range(len(self._paths))]
        except (InputError, OSError) as error:
            raise InputError(f"source {self.name!r}: {error}") from error
        self._parts = Parts(self._read_from, self._access.retry_seconds)
        folders = {path: path.rpartition("/")[0] or "/" * path.startswith("/") for path in self._paths}
        named = {folder: Named(folder, self._allow, self._access) for folder in set(folders.values())}
        self._named = [named[folders[path]] for path in self._paths]
        self._places = files.Places([len(index["starts"]) for index in self._index])
        if not len(self._places):
            raise InputError(
                f"source {self.name!r}: {self._paths[0]} holds no line; it needs one record a line"
            )

    def __reduce__(self) -> tuple[type[Lines], tuple[Any, ...]]:
        return type(self), self._arguments

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record.

        Raises:
            BrokenRecord: its line cannot be understood; its picture is not there, refused or too large.
            StoreFault: they cannot be read.
            IndexError: there is none of this number.
        """
        file, row = self._places[index]
        record = self._record(file, row, index)
        for field in (self._image,) if self._image else _PATH_FIELDS:
            if isinstance(record.get(field), str):
                return record | {"image": self._picture(file, row, record[field])}
        if self._image:
            raise BrokenRecord(f"{self._where(file, row)}: {self._image!r} is missing or no path")
        return record

    def contents(self) -> list[Contents]:
        """Its files; pictures that records name are not looked at."""
        return [of_files(self.name, len(self), self._paths)]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records; it reads no picture. See `records.Source.column`."""
        rows = range(len(self)) if rows is None else rows
        if name == "record":
            return rows
        if name == "image":
            raise KeyError(name)
        remote = any(map(files.is_remote, self._paths))
        return column(name, rows, lambda index: self._record(*self._places[index], index), remote)

    def _indexed(self, number: int) -> dict[str, Any]:
        path, place = self._paths[number], self._read_from[number]
        if path not in self._unpacked and files.stamp(place)[0] > WORTH_KEEPING:
            return indexed(place, self._index_name(path), lambda place: self._offsets_of(path, place))
        return self._offsets_of(path, place)

    def _index_name(self, path: str) -> str:
        return f"{self.kind} records 1"

    def _offsets_of(self, path: str, place: str) -> dict[str, Any]:
        packed = self._unpacked.get(path)
        with files.stream(place) if packed is None else io.BytesIO(packed) as file:
            try:
                return self._offsets(path, file)
            except InputError as error:
                raise InputError(f"{path}, {error}") from error

    def _piece(self, file: int, row: int) -> bytes:
        start, end = (int(self._index[file][name][row]) for name in ("starts", "ends"))
        packed = self._unpacked.get(self._paths[file])
        check_record(end - start, LINE_BYTES)
        return self._parts.read(file, start, end - start) if packed is None else packed[start:end]

    def _record(self, file: int, row: int, index: int) -> dict[str, Any]:
        try:
            record = self._parse(file, self._piece(file, row))
        except (ValueError, RecursionError, csv.Error, BrokenRecord) as error:
            raise BrokenRecord(f"{self._where(file, row)}: {error}") from error
        named = (record[name] for name in ("key", "_id") if record.get(name) is not None)
        return record | {"key": str(next(named, index)), "record": index}

    def _where(self, file: int, row: int) -> str:
        line = f"line {self._index[file]['lines'][row] + 1}"
        return line if len(self._paths) == 1 else f"{self._paths[file]}, {line}"

    def _picture(self, file: int, row: int, path: str) -> bytes:
        try:
            return self._named[file].read(path)
        except BrokenRecord as error:
            raise BrokenRecord(f"{self._where(file, row)}: cannot read the picture: {error}") from error

    @abstractmethod
    def _offsets(self, path: str, file: BinaryIO) -> dict[str, Any]:
        """``starts``, ``ends`` (bytes) and ``lines`` (from 0) of the records, int64."""

    @abstractmethod
    def _parse(self, file: int, content: bytes) -> dict[str, Any]:
        """The record that a piece of a file holds; ValueError or csv.Error where it holds none."""


class JSONLines(Lines):
    """A random-access source over files with a JSON object a line.

    A record is what the object holds, nested objects flattened, with ``record`` and ``key`` (its own
    ``key`` or ``_id``, else its number). A path under ``image`` or ``file_name`` makes ``image`` the bytes
    of that picture. Blank lines are left out. A file that holds a JSON list is refused.
    """

    kind, endings = "jsonl", (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")

    def _offsets(self, path: str, file: BinaryIO) -> dict[str, Any]:
        at, places, number, first = 0, array.array("q"), -1, []
        begun = blank = False  # a line in pieces, and all of them blank so far
        for line in iter(lambda: file.readline(LINE_BYTES), b""):
            if begun:
                blank = blank and line.isspace()
            else:
                start, blank, number = at, line.isspace(), number + 1
                if not blank and len(first) < _LOOKED_AT:
                    first.append(line)
            at += len(line)
            begun = not line.endswith(b"\n")
            if not begun and not blank:
                places.extend((start, at, number))
        if begun and not blank:
            places.extend((start, at, number))
        # One record that is a list is broken; a file that is one is of another kind.
        if first and first[0].lstrip(_BEFORE)[:1] == b"[" and not any(map(_is_object, first)):
            raise InputError(
                "which holds a JSON list, and an object a line is wanted: jq -c '.[]' FILE writes them so"
            )
        return columns_of(places)

    def _parse(self, file: int, content: bytes) -> dict[str, Any]:
        try:
            record = json.loads(content)
        except ValueError as error:
            raise ValueError(f"not JSON ({error})") from error
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        return flatten(record)


def _is_object(content: bytes) -> bool:
    with contextlib.suppress(ValueError, RecursionError):
        return isinstance(json.loads(content), dict)
    return False


def columns_of(places: array.array[int]) -> dict[str, np.ndarray]:
    """Start, end and line of each record in turn, as columns."""
    starts, ends, lines = np.frombuffer(places, np.int64).reshape(-1, 3).T.copy()
    return {"starts": starts, "ends": ends, "lines": lines}
