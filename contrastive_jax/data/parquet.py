"""Parquet files, plain or as Hugging Face `datasets` writes them, read by random access."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from contrastive_jax.data import files
from contrastive_jax.data.contents import Contents, of_files
from contrastive_jax.data.parquet_files import File, footers_of, one, values_of
from contrastive_jax.data.records import BrokenRecord, flatten
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_CACHED_BYTES = 256 << 20  # of row groups, in each process
_KEPT_OPEN = 256  # files of one source at a time, as in `files.Parts`
_MEGABYTE = 1 << 20


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

    Raises:
        InputError: there is no file or record, one is no Parquet, or has other columns than the first.
    """

    def __init__(self, pattern: str, columns: str = "", cache: str = "") -> None:
        self.name, self._arguments = f"parquet:{pattern}", (pattern, columns, cache)
        try:
            self._paths = files.expand(pattern, ".parquet")
            self._columns = [name for name in columns.split(",") if name]
            self._budget = _budget(cache)
            footers = footers_of(self._paths)
            self._schema = self._chosen(footers[0][0])
            for path, (schema, *_) in zip(self._paths[1:], footers[1:]):
                _check_same(self._paths[0], self._schema, path, self._chosen(schema))
        except InputError as error:
            raise InputError(f"source {self.name!r}: {error}") from error
        self._groups = [
            (file, group) for file, (_, rows, _) in enumerate(footers) for group in range(len(rows))
        ]
        self._places = files.Places([count for _, rows, _ in footers for count in rows])
        self._before = [sum(rows[:group]) for _, rows, _ in footers for group in range(len(rows))]
        if not len(self):
            raise InputError(f"source {self.name!r}: no row in {len(self._paths)} files")
        self._sizes = [size for *_, size in footers]
        self._names = files.names(self._paths, ".parquet")
        self._classes = _classes(footers[0][0])
        self._pictures = _pictures(self._schema)
        self._nested = [_is_struct(field.type) for field in self._schema]
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
            BrokenRecord: its row group or a value cannot be read, or its picture is a path that cannot.
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
        for name, classes in self._classes.items():
            if name in record:
                record.setdefault(f"{name}_name", _class(classes, record[name]))
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
            classes = self._classes.get(top)
            if classes is None or top not in self._schema.names:
                raise KeyError(name)
            return [_class(classes, value) or "" for value in self.column(top, rows)]
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
        folder = self._paths[self._groups[number][0]].rpartition("/")[0]
        path = value["path"]
        if not path or files.is_remote(path) or path.startswith("/") or ".." in path.split("/"):
            raise BrokenRecord(
                f"{name}: no bytes, and its path {path!r} is none below the folder of the file"
            )
        try:
            return {name: files.read(f"{folder}/{path}" if folder else path)}
        except OSError as error:
            raise BrokenRecord(f"{name}: cannot read {path} ({error.strerror or error})") from error

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
            try:
                with files.as_os_error(self._paths[file]):
                    table = self._opened(file).group(group, names)
                columns = [one(table.column(name)) for name in names]
            except OSError as error:
                reason = str(error).removeprefix(f"{self._paths[file]}: ")
                raise BrokenRecord(f"row group {group} of {self._paths[file]}: {reason}") from error
            if keep:
                self._kept[number] = table.nbytes, columns
                while len(self._kept) > 1 and sum(size for size, _ in self._kept.values()) > self._budget:
                    self._kept.popitem(last=False)
            return columns

    def _opened(self, file: int) -> File:
        if file not in self._open:
            if len(self._open) >= _KEPT_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[file] = File(self._paths[file], self._sizes[file])
        return self._open[file]


def _or_none(value: pa.Scalar) -> Any:
    with contextlib.suppress(ValueError):
        return value.as_py()


def _budget(cache: str) -> int:
    if cache and not cache.isdecimal():
        raise InputError(f"option cache={cache!r}: give a whole number of MiB")
    return int(cache) * _MEGABYTE if cache else _CACHED_BYTES


def _check_same(first: str, expected: pa.Schema, path: str, schema: pa.Schema) -> None:
    for name in [*expected.names, *schema.names]:
        types = [_plain(each.field(name).type) if name in each.names else None for each in (expected, schema)]
        if types[0] != types[1]:
            wants, has = (f"is {kind}" if kind is not None else "is missing" for kind in types)
            raise InputError(
                f"{path}: column {name!r} {has}, but in {first} it {wants}; all files need one schema"
            )


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)


def _is_struct(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_struct(kind)


def _pictures(schema: pa.Schema) -> set[str]:
    """Columns of bytes, or of structs that hold a file's bytes and path."""
    import pyarrow as pa

    structs = {
        field.name
        for field in schema
        if _is_struct(field.type) and {inner.name for inner in field.type} == {"bytes", "path"}
    }
    binary = {pa.binary(), pa.large_binary()}
    return structs | {field.name for field in schema if field.type in binary}


def _classes(schema: pa.Schema) -> dict[str, list[str]]:
    """{column: names of its classes}, as `datasets` notes them in the schema."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {name: of["names"] for name, of in features.items() if of.get("_type") == "ClassLabel"}
        return {name: classes for name, classes in found.items() if isinstance(classes, list)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _class(classes: list[str], number: Any) -> str | None:
    known = isinstance(number, int) and 0 <= number < len(classes)  # -1 is `datasets`' word for none
    return classes[number] if known else None
