"""Parquet files, plain or as Hugging Face `datasets` writes them, read by random access."""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import os
import threading
from typing import TYPE_CHECKING, Any

from contrastive_jax.data import files
from contrastive_jax.data.contents import Contents, of_files
from contrastive_jax.data.faults import Access, is_passing, retried
from contrastive_jax.data.named import Named, allowed
from contrastive_jax.data.parquet_files import File, footers_of, one, spelled_out, values_of
from contrastive_jax.data.parquet_schema import check_same, class_name, classes, is_struct, pictures
from contrastive_jax.data.records import BrokenRecord, flatten
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_CACHED_BYTES = 256 << 20  # of row groups, in each process
_KEPT_OPEN = 256  # files of one source at a time, as in `ranges.Parts`
_MEGABYTE = 1 << 20
_BESIDE = ("_SUCCESS", "_metadata", "_common_metadata")  # what Spark and Dask write into a folder of files


class Parquet:
    """A random-access source over Parquet files of one schema.

    A record has the columns, nested structs flattened, and ``key`` (the column of that name as text, else
    ``file/row``) and ``record``. A struct ``{"bytes", "path"}``, which is how `datasets` stores a picture,
    becomes the bytes under the column's own name; a column that it declares as classes has the class's name
    beside it (``label``: ``label_name``).

    A row is read with its row group, and as many groups are kept as `cache` allows. Where the files are
    larger, records read in random order cost a group each: many small groups (`row_group_size=100`), or
    ``data prepare``, make that fast.

    Args:
        pattern: files: a path, a glob, braces, or a folder; local or remote.
        columns: which columns to read, divided by commas; all by default.
        cache: MiB of row groups that each process keeps.
        allow: as of `lines.Lines`, for pictures that are paths.
        access: of what is read.

    Raises:
        InputError: there is no file or record, one is no Parquet, or has other columns than the first.
    """

    def __init__(
        self,
        pattern: str,
        columns: str = "",
        cache: str = "",
        allow: str = "",
        access: Access | None = None,
    ) -> None:
        self._access = access or Access()
        self.name, self._arguments = f"parquet:{pattern}", (pattern, columns, cache, allow, self._access)
        try:
            self._allow = allowed(allow)
            self._paths = files.expand(pattern, ".parquet", beside=_BESIDE)
            self._columns = [name for name in columns.split(",") if name]
            self._budget = _budget(cache)
            footers = footers_of(self._paths)
            self._schema = self._chosen(footers[0][0])
            for path, (schema, *_) in zip(self._paths[1:], footers[1:]):
                check_same(self._paths[0], self._schema, path, self._chosen(schema))
        except InputError as error:
            raise InputError(f"source {self.name!r}: {error}") from error
        rows = [rows for _, rows, _ in footers]
        self._stamps = [stamp for _, _, stamp in footers]
        self._groups = [(file, group) for file, of in enumerate(rows) for group in range(len(of))]
        self._places = files.Places([count for of in rows for count in of])
        self._before = [sum(of[:group]) for of in rows for group in range(len(of))]
        if not len(self):
            raise InputError(f"source {self.name!r}: no row in {len(self._paths)} files")
        self._names = files.names(self._paths, ".parquet")
        self._classes = classes(footers[0][0])
        self._pictures = pictures(self._schema)
        self._nested = [is_struct(field.type) for field in self._schema]
        self._lock = threading.RLock()
        self._process, self._open, self._kept = os.getpid(), {}, collections.OrderedDict()
        self._last: tuple[Any, ...] = ()  # the group, the name and the values of a column read in pieces

    def __reduce__(self) -> tuple[type[Parquet], tuple[str, ...]]:
        return Parquet, self._arguments

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record.

        Raises:
            BrokenRecord: its row group or a value is damaged, or its picture is a path that is refused or
                leads nowhere.
            StoreFault: they cannot be read.
            IndexError: there is none of this number.
        """
        number, row = self._places[index]
        columns = self._group(number, tuple(self._schema.names))
        record = {}
        for name, column, nested in zip(self._schema.names, columns, self._nested):
            value = self._value(number, name, column[row])
            if nested and isinstance(value, dict):
                record |= self._unfold(number, name, value)
            else:
                record[name] = value
        for name, known in self._classes.items():
            if name in record:
                record.setdefault(f"{name}_name", class_name(known, record[name]))
        key = record["key"] if record.get("key") is not None else self._key(number, row)
        return record | {"key": str(key), "record": index}

    def contents(self) -> list[Contents]:
        """Its files."""
        return [of_files(self.name, len(self), self._paths)]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records, read as a column; an absent value is an empty string.

        Raises:
            KeyError: there is no such column, or it is a picture.
        """
        if name == "record":
            return range(len(self)) if rows is None else rows
        top, _, inner = name.partition(".")
        if top not in self._schema.names and name in self._schema.names:
            top, inner = name, ""
        if name.endswith("_name") and name not in self._schema.names:
            top, inner = name.removesuffix("_name"), ""
            known = self._classes.get(top)
            if known is None or top not in self._schema.names:
                raise KeyError(name)
            return [class_name(known, value) or "" for value in self.column(top, rows)]
        if name == "key":
            wanted = range(len(self)) if rows is None else rows
            given = self._column(top, rows) if top in self._schema.names else [None] * len(wanted)
            return [self._key(*self._places[n]) if key is None else str(key) for n, key in zip(wanted, given)]
        if top not in self._schema.names or (top in self._pictures and not inner):
            raise KeyError(name)
        values = self._column(top, rows)
        if inner:
            values = [flatten(value).get(inner, "") if isinstance(value, dict) else "" for value in values]
        elif self._nested[self._schema.names.index(top)]:
            raise KeyError(name)
        return ["" if value is None else value for value in values]

    def _chosen(self, schema: pa.Schema) -> pa.Schema:
        import pyarrow as pa

        missing = [name for name in self._columns if name not in schema.names]
        if missing:
            raise InputError(f"no column {missing[0]!r}; there are {', '.join(schema.names)}")
        return pa.schema([schema.field(name) for name in self._columns]) if self._columns else schema

    def _key(self, number: int, row: int) -> str:
        return f"{self._names[self._groups[number][0]]}/{self._before[number] + row}"

    def _unfold(self, number: int, name: str, value: dict[str, Any]) -> dict[str, Any]:
        if name not in self._pictures:
            return flatten(value, f"{name}.")
        if value["bytes"] is not None:
            return {name: value["bytes"]}
        file, path = self._paths[self._groups[number][0]], value["path"]
        folder = file.rpartition("/")[0] or "/" * file.startswith("/")
        if not path:
            raise BrokenRecord(f"{name}: neither bytes nor a path ({path!r})")
        try:
            return {name: Named(folder, self._allow, self._access).read(path)}
        except BrokenRecord as error:
            raise BrokenRecord(f"{name}: cannot read {error}") from error

    def _column(self, name: str, rows: Sequence[int] | None) -> list[Any]:
        if rows is None:
            return [value for number in range(len(self._groups)) for value in self._values(number, name)]
        values: list[Any] = []
        for number, places in itertools.groupby(map(self._places.__getitem__, rows), lambda place: place[0]):
            values += self._values(number, name, [row for _, row in places])
        return values

    def _values(self, number: int, name: str, some: Sequence[int] | None = None) -> list[Any]:
        try:
            column = (
                self._group(number, (name,), keep=False)[0] if some is None else self._last_of(number, name)
            )
        except BrokenRecord:
            return [None] * len(self._places.of_file(number) if some is None else some)
        if some is not None:
            column = column.take(some)
        try:
            return values_of(column)
        except ValueError:
            return [_or_none(value) for value in column]

    def _last_of(self, number: int, name: str) -> pa.Array:
        """A column of a row group, kept until another one is asked for, as it is read in pieces."""
        if self._last[:2] != (number, name):
            self._last = number, name, self._group(number, (name,), keep=False)[0]
        return self._last[2]

    def _value(self, number: int, name: str, value: pa.Scalar) -> Any:
        try:
            return value.as_py()
        except ValueError as error:  # a text that is no UTF-8, a time finer than Python's
            path = self._paths[self._groups[number][0]]
            raise BrokenRecord(f"column {name!r} of {path}: {str(error).splitlines()[0]}") from error

    def _group(self, number: int, names: tuple[str, ...], keep: bool = True) -> list[pa.Array]:
        """The columns of a row group, from the cache where they are."""
        with self._lock:
            if self._process != os.getpid():  # forked: files and threads are the parent's
                self._process, self._open, self._kept = os.getpid(), {}, collections.OrderedDict()
            if keep and number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number][1]
            file, group = self._groups[number]
            path, seconds = self._paths[file], self._access.retry_seconds

            def read() -> list[pa.Array]:
                try:
                    table = self._opened(file).group(group, names, keep)
                    columns = [one(table.column(name)) for name in names]
                    return [spelled_out(column) for column in columns] if keep else columns
                except (OSError, ValueError) as error:  # of both kinds is what Arrow says of damage
                    self._open.pop(file, None)
                    if files.has_changed(path, self._stamps[file]):
                        raise OSError(errno.ESTALE, "it has changed") from error
                    raise

            try:
                columns = retried(read, path, seconds, settled=lambda error: not _of_the_disk(error))
            except OSError as error:
                reason = str(error).removeprefix(f"{path}: ")
                raise BrokenRecord(f"row group {group} of {path}: {reason}") from error
            if keep:
                self._kept[number] = sum(column.nbytes for column in columns), columns
                while len(self._kept) > 1 and sum(size for size, _ in self._kept.values()) > self._budget:
                    self._kept.popitem(last=False)
            return columns

    def _opened(self, file: int) -> File:
        if file not in self._open:
            if len(self._open) >= _KEPT_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[file] = File(self._paths[file], self._stamps[file][0], self._access.retry_seconds)
        return self._open[file]


def _or_none(value: pa.Scalar) -> Any:
    with contextlib.suppress(ValueError):
        return value.as_py()


def _budget(cache: str) -> int:
    if cache and not cache.isdecimal():
        raise InputError(f"option cache={cache!r}: give a whole number of MiB")
    return int(cache) * _MEGABYTE if cache else _CACHED_BYTES


def _of_the_disk(error: OSError) -> bool:
    """Whether the bytes did not come; what Arrow says of bytes that are bad has no number of an error."""
    return error.errno is not None or is_passing(error)
