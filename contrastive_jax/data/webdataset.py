"""WebDataset tars, as img2dataset writes them, read by random access."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import time
from typing import TYPE_CHECKING, Any

from contrastive_jax.data import files, tars
from contrastive_jax.data.bounds import check_record
from contrastive_jax.data.columns import column
from contrastive_jax.data.contents import Contents, of_files
from contrastive_jax.data.faults import RETRY_SECONDS, Access
from contrastive_jax.data.indexes import indexed, warn
from contrastive_jax.data.pictures import PICTURES
from contrastive_jax.data.ranges import Parts
from contrastive_jax.data.records import BrokenRecord, flatten
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0
_TEXTS = frozenset(("txt", "text"))
_KIND = "tar samples 2"
_AT_ONCE = 8  # remote tars that are indexed together
_GAP = 1 << 16  # bytes read in vain rather than asking a second time


class WebDataset:
    """A random-access source over tars in which files of one key make up a sample.

    A record has ``key`` (``shard/key``), ``record``, ``image`` (the encoded picture), ``text`` (of
    ``.txt``), ``label`` (int, of ``.cls``), the fields of ``.json`` with nested ones flattened, and every
    other file's bytes under its extension. A further picture of a sample keeps its extension as its name.

    Where each file lies is indexed on first use (`indexes.indexed`). Pickled files are left out, of doubles
    the first is kept, and of a torn tar the samples before the tear; a warning counts them.

    Args:
        pattern: tars: a path, a glob, braces, or a folder; local or remote.
        access: of what is read.

    Raises:
        InputError: there is none, one is no tar, is torn before its first sample, or has a member that is a
            link or leaves the folder.
    """

    def __init__(self, pattern: str, access: Access | None = None) -> None:
        self.name, self._arguments = f"webdataset:{pattern}", (pattern, access)
        try:
            paths = files.expand(pattern, ".tar")
            self._indexes = _indexes(paths)
        except InputError as error:
            raise InputError(f"source {self.name!r}: {error}") from error
        self._shards = files.names(paths, ".tar")
        self._parts = Parts(paths, access.retry_seconds if access else RETRY_SECONDS)
        self._places = files.Places([len(index["key_ends"]) for index in self._indexes])
        self._decode = [[_decoder(name) for name in index["names"]] for index in self._indexes]
        if not len(self):
            raise InputError(f"source {self.name!r}: no sample in {len(paths)} tar files")
        self._warn(paths)

    def __reduce__(self) -> tuple[type[WebDataset], tuple[Any, ...]]:
        return WebDataset, self._arguments

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record.

        Raises:
            BrokenRecord: its JSON, text or class is damaged.
            StoreFault: the tar cannot be read there.
            IndexError: there is none of this number.
        """
        shard, row = self._places[index]
        return self._read(shard, row, None) | {"key": self._key(shard, row), "record": index}

    def contents(self) -> list[Contents]:
        """Its tars."""
        return [of_files(self.name, len(self), self._parts.paths)]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records; it reads no picture. See `records.Source.column`."""
        rows = range(len(self)) if rows is None else rows
        if name == "record":
            return rows
        if name == "key":
            return [self._key(*self._places[index]) for index in rows]
        if name == "image":
            raise KeyError(name)
        remote = any(map(files.is_remote, self._parts.paths))
        return column(name, rows, lambda index: self._read(*self._places[index], name), remote)

    def _key(self, shard: int, row: int) -> str:
        index = self._indexes[shard]
        start = int(index["key_ends"][row - 1]) if row else 0
        key = index["keys"][start : int(index["key_ends"][row])].tobytes()
        return f"{self._shards[shard]}/{key.decode('utf-8', 'surrogateescape')}"

    def _read(self, shard: int, row: int, only: str | None) -> dict[str, Any]:
        """The fields of a sample; of `only` one field, from the members that may hold it."""
        index, decode = self._indexes[shard], self._decode[shard]
        some = slice(int(index["first"][row]), int(index["first"][row + 1]))
        kinds, starts, sizes = (index[name][some].tolist() for name in ("extensions", "starts", "sizes"))
        record: dict[str, Any] = {}
        json_fields: dict[str, Any] = {}
        if only is not None:
            kept = [n for n, kind in enumerate(kinds) if decode[kind][0] in (only, None)]
            kinds, starts, sizes = ([values[n] for n in kept] for values in (kinds, starts, sizes))
        try:
            check_record(sum(sizes))
        except BrokenRecord as error:
            raise BrokenRecord(f"{self._key(shard, row)}: cannot be read ({error})") from error
        for kind, content in zip(kinds, self._contents(shard, starts, sizes)):
            field, make = decode[kind]
            try:
                if field is None:
                    json_fields |= make(content)
                else:
                    record[field if field not in record else index["names"][kind]] = make(content)
            except (ValueError, RecursionError) as error:
                what = f"{self._key(shard, row)}.{index['names'][kind]}"
                raise BrokenRecord(f"{what}: damaged ({error})") from error
        return json_fields | record if json_fields else record

    def _contents(self, shard: int, starts: list[int], sizes: list[int]) -> list[bytes]:
        read = self._parts.read
        if not starts:
            return []
        first, last = min(starts), max(start + size for start, size in zip(starts, sizes))
        if last - first > sum(sizes) + _GAP:
            return [read(shard, start, size) for start, size in zip(starts, sizes)]
        whole = read(shard, first, last - first)
        return [whole[start - first : start - first + size] for start, size in zip(starts, sizes)]

    def _warn(self, paths: list[str]) -> None:
        for path, index in zip(paths, self._indexes):
            if index["torn"]:
                warn(f"{path} is torn: {index['torn']}")
        for what, why in {
            "pickles": "pickled files are left out: they could execute anything",
            "doubles": "files have the name of an earlier one in their tar, which is used",
            "nameless": "files have no name of the form key.extension and are left out",
        }.items():
            counts = [index[what] for index in self._indexes]
            if sum(counts):
                first = next(number for number, count in enumerate(counts) if count)
                double = self._indexes[first]["double"] if what == "doubles" else ""
                example = f" ({double})" if double else ""
                warn(f"{self.name}: {sum(counts)} {why}; the first in {paths[first]}{example}")


def _indexes(paths: list[str]) -> list[dict[str, Any]]:
    if not any(map(files.is_remote, paths)):
        indexes, told = [], time.monotonic()
        for path in paths:
            indexes.append(indexed(path, _KIND, tars.samples))
            if time.monotonic() > told + _SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                _log.info("indexed %d of %d tar files", len(indexes), len(paths))
        return indexes
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda path: indexed(path, _KIND, tars.samples), paths))


def _decoder(extension: str) -> tuple[str | None, Callable[[bytes], Any]]:
    """The field that a file becomes (None: each of its own) and what makes it of the bytes."""
    if extension in PICTURES:
        return "image", bytes
    if extension in _TEXTS:
        return "text", bytes.decode
    if extension == "cls":
        return "label", int
    if extension == "json":
        return None, _json
    return extension, bytes


def _json(content: bytes) -> dict[str, Any]:
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return flatten(value)
