"""Records listed in CSV and TSV files, with or without pictures that lie beside them."""

from __future__ import annotations

import array
import csv
import io
from typing import TYPE_CHECKING, Any, BinaryIO

from contrastive_jax.data.bounds import LINE_BYTES
from contrastive_jax.data.indexes import warn
from contrastive_jax.data.lines import Lines, columns_of
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contrastive_jax.data.faults import Access

_DELIMITERS = {"tab": "\t", "semicolon": ";", "comma": ",", "bar": "|"}
_QUOTES = {"double": csv.QUOTE_MINIMAL, "none": csv.QUOTE_NONE}
_FIELD_LIMIT = 1 << 24  # characters of a CSV field


class CSV(Lines):
    """A random-access source over CSV files with a header (``.tsv``: tabs between the fields).

    A record is a row's fields as strings, with ``record`` and ``key`` as in `JSONLines`; a ``label`` that
    is a whole number is one. A path under ``image`` or ``file_name`` makes ``image`` the bytes of that
    picture. Fields in double quotes may hold line ends, where quotes mean anything.

    Args:
        pattern, image, allow, access: as in `Lines`.
        delimiter: what stands between fields: ``tab``, ``semicolon``, ``comma``, ``bar``. By default a tab in
            ``.tsv`` files and a comma in others.
        quotes: ``double`` (RFC 4180), or ``none``: they are characters as any other, the default of ``.tsv``.

    Raises:
        InputError: as `Lines`; or the header has other delimiters than it is read with.
    """

    kind, endings = "csv", (".csv", ".csv.gz", ".tsv", ".tsv.gz")

    def __init__(
        self,
        pattern: str,
        image: str = "",
        allow: str = "",
        access: Access | None = None,
        delimiter: str = "",
        quotes: str = "",
    ) -> None:
        for name, value, known in (("delimiter", delimiter, _DELIMITERS), ("quotes", quotes, _QUOTES)):
            if value and value not in known:
                raise InputError(f"source 'csv:{pattern}': {name} is {value!r}, not {', '.join(known)}")
        self._format = delimiter, quotes
        super().__init__(pattern, image, allow, access)
        self._arguments += self._format

    def _index_name(self, path: str) -> str:
        delimiter, quoting = self._dialect(path)
        return f"csv records 2 {delimiter!r} {quoting}"

    def _dialect(self, path: str) -> tuple[str, int]:
        delimiter, quotes = self._format
        tabs = path.lower().removesuffix(".gz").endswith(".tsv")
        usual = ("tab", "none") if tabs else ("comma", "double")
        return _DELIMITERS[delimiter or usual[0]], _QUOTES[quotes or usual[1]]

    def _offsets(self, path: str, file: BinaryIO) -> dict[str, Any]:
        at, read = 0, []

        def lines() -> Iterator[str]:
            nonlocal at
            for line in iter(lambda: file.readline(LINE_BYTES + 1), b""):
                if at + len(line) - start > LINE_BYTES:
                    raise csv.Error(f"a row of more than {LINE_BYTES:,} bytes")
                at += len(line)
                read.append(line.decode("utf-8-sig" if at == len(line) else "utf-8", "replace"))
                yield read[-1]

        places, start, line, last, header, record = array.array("q"), 0, 0, 0, None, ""
        dialect = self._dialect(path)
        rows, told = _rows(lines(), dialect), False
        try:
            for row in rows:
                if row and header is None:
                    header = row
                    if not self._format[0]:
                        _check_header(row, dialect[0])
                elif row:
                    told = told or _tell_rows_in_a_field(path, read, line, len(header or ()), dialect)
                    places.extend((start, at, line))
                last, start, line = line, at, rows.line_num
                record, read[:] = "".join(read), []
        except csv.Error as error:
            raise InputError(f"line {line + 1}: {error}") from error
        _check_end(record, last, dialect)
        return columns_of(places) | {"header": header or []}

    def _parse(self, file: int, content: bytes) -> dict[str, Any]:
        header = self._index[file]["header"]
        row = next(_rows(io.StringIO(content.decode(), newline=""), self._dialect(self._paths[file])), [])
        if len(row) != len(header):
            raise ValueError(f"{len(row)} fields where the header has {len(header)}")
        record: dict[str, Any] = dict(zip(header, row))
        if record.get("label", "").removeprefix("-").isdecimal():
            record["label"] = int(record["label"])
        return record


def _rows(lines: Iterable[str], dialect: tuple[str, int], strict: bool = False) -> Any:
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))
    return csv.reader(lines, delimiter=dialect[0], quoting=dialect[1], strict=strict)


def _check_header(header: list[str], delimiter: str) -> None:
    others = [name for name, each in _DELIMITERS.items() if each != delimiter and each in header[0]]
    if len(header) == 1 and others:
        raise InputError(f"line 1: {header[0]!r:.80} is one field: is ?delimiter={others[0]} meant?")


def _tell_rows_in_a_field(
    path: str, read: list[str], line: int, fields: int, dialect: tuple[str, int]
) -> bool:
    """Whether a row of several lines looks as if a lone quote had joined rows; it is told."""
    inner = read[1:-1]
    if len(inner) < 2 or any(len(row) != fields for row in _rows(inner, (dialect[0], csv.QUOTE_NONE))):
        return False
    warn(
        f"{path}, line {line + 1}: a quoted field holds {len(inner)} lines that look like rows: "
        "?quotes=none if no quotes are meant"
    )
    return True


def _check_end(content: str, line: int, dialect: tuple[str, int]) -> None:
    """A quote that is opened and never closed takes all that follows into one field."""
    try:
        list(_rows(io.StringIO(content, newline=""), dialect, strict=True))
    except csv.Error as error:
        if "end of data" in str(error):
            raise InputError(
                f"line {line + 1}: its quotes are never closed (?quotes=none if they are no quotes)"
            ) from error
