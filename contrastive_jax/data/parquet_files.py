"""Parquet files opened, and their row groups decoded within bounds.

A few bytes of Parquet can stand for gigabytes: one long text for a million rows, or runs of one number. So
texts stay as numbers into a dictionary (`pyarrow` calls that `read_dictionary`), and what a row group says of
its size is looked at before it is decoded.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data import files
from contrastive_jax.data.faults import RETRY_SECONDS, as_os_error
from contrastive_jax.data.parquet_schema import in_microseconds
from contrastive_jax.data.ranges import Ranges
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq

_AT_ONCE = 16  # remote files whose footers are read together
_GROUP_BYTES = 1 << 29  # of a decoded row group; larger files may have larger ones:
_GROUP_TIMES = 16  # as many times their own size
_BATCH_BYTES = 1 << 28
_FEW, _SMALL = 4, 1 << 20  # batches, and bytes, that are read as fast as a whole group
_ROWS = 1 << 24  # of a file; larger files may have more:
_ROWS_A_BYTE = 1024
_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 8}


class _TooLarge(OSError):  # noqa: N818
    pass


class File:
    """An open file.

    Args:
        path: local or remote.
        size: its bytes.
        seconds: how long a part that cannot be read is tried again, of a remote file.
    """

    def __init__(self, path: str, size: int, seconds: float = RETRY_SECONDS) -> None:
        self._path, self._size, self._seconds = path, size, seconds
        self._plain = _open(path, seconds)
        self._coded: pq.ParquetFile | None = None
        self._metadata = self._plain.metadata
        columns = [self._metadata.schema.column(number) for number in range(self._metadata.num_columns)]
        self._lengths = [_BYTES.get(column.physical_type, column.length) for column in columns]
        self._flat = all(column.max_repetition_level == 0 for column in columns)
        self._texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]

    def close(self) -> None:
        for file in filter(None, (self._plain, self._coded)):
            file.close()

    def group(self, number: int, names: Sequence[str], spelled: bool = False) -> pa.Table:
        """The columns of a row group, by its number.

        Args:
            number: of the row group.
            names: of the columns.
            spelled: whether texts may come spelled out, where that is faster: equal ones are not one then.

        Raises:
            OSError: decoded they would be too large, or there are other than the file says.
        """
        metadata = self._metadata.row_group(number)
        tops = {name.split(".")[0] for name in names}
        chunks = [(metadata.column(n), length) for n, length in enumerate(self._lengths)]
        chunks = [each for each in chunks if each[0].path_in_schema.split(".")[0] in tops]
        stored = sum(chunk.total_compressed_size for chunk, _ in chunks)
        most = max(_GROUP_BYTES, _GROUP_TIMES * min(self._size, stored))
        decoded = sum(each.total_uncompressed_size + each.num_values * length for each, length in chunks)
        _check(decoded, most)
        # Of flat columns a row is at most as large as all that is stored.
        rows = _BATCH_BYTES // max(decoded, 1)
        table = None
        if spelled and self._flat and metadata.num_rows <= _FEW * rows:
            with contextlib.suppress(_TooLarge):
                table = self._in_batches(number, names, rows, max(2 * decoded, _SMALL))
        if table is None:
            longest = max(each.num_values * each.total_uncompressed_size for each, _ in chunks)
            table = self._coded_group(number, names, max(min(rows, 4096), 1), longest, most)
        if len(table) != metadata.num_rows:
            raise OSError(f"it holds {len(table):,} rows where its footer says {metadata.num_rows:,}")
        return table

    def _coded_group(self, number: int, names: Sequence[str], rows: int, longest: int, most: int) -> pa.Table:
        import pyarrow as pa

        if self._coded is None:
            options = {"metadata": self._metadata, "read_dictionary": self._texts}
            self._coded = _open(self._path, self._seconds, **options)
        try:
            table = self._coded.read_row_group(number, columns=list(names))
        except OSError as error:
            if "Not yet implemented" not in str(error):
                raise
            # Texts of which each may repeat the one before, so that there is no dictionary of them.
            if not self._flat:  # a row may hold all of them
                _check(longest, most)
            return self._in_batches(number, names, rows, most)
        for column in table.columns:
            if pa.types.is_nested(column.type):  # of which Python makes a text of its own for every number
                _check(sum(map(_bytes_in, column.chunks)), most)
        return table

    def _in_batches(self, number: int, names: Sequence[str], rows: int, most: int) -> pa.Table:
        import pyarrow as pa

        batches, read = [], 0
        for batch in self._plain.iter_batches(rows, row_groups=[number], columns=list(names)):
            read += batch.nbytes
            _check(read, most)
            batches.append(batch)
        return pa.Table.from_batches(batches)


def _open(path: str, seconds: float = RETRY_SECONDS, **options: Any) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    if not files.is_remote(path):
        return pq.ParquetFile(path, **options)
    with as_os_error(path):
        return pq.ParquetFile(Ranges(path, seconds), pre_buffer=True, **options)


def footers_of(paths: list[str]) -> list[tuple[pa.Schema, list[int], list[Any]]]:
    """(schema, rows of each row group, `files.stamp`) of every file.

    Raises:
        InputError: one is no Parquet file, or says that it holds more rows than it can.
    """
    if not any(map(files.is_remote, paths)):
        return [_footer(path) for path in paths]
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_footer, paths))


def _footer(path: str) -> tuple[pa.Schema, list[int], list[Any]]:
    size, mark = files.stamp(path)
    try:
        with _open(path) as file:
            metadata = file.metadata
            rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            schema = file.schema_arrow
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no Parquet file, or is torn ({reason})") from error
    if min(rows, default=0) < 0 or sum(rows) > max(_ROWS, _ROWS_A_BYTE * size):
        raise InputError(f"{path} ({size:,} bytes) says that it holds {sum(rows):,} rows, more than it can")
    return schema, rows, [size, mark]


def _check(decoded: int, most: int) -> None:
    if decoded > most:
        raise _TooLarge(
            f"it would be {decoded:,} bytes in memory, and at most {most:,} are read; "
            "write the file anew with smaller row groups (row_group_size=1000)"
        )


def _bytes_in(array: pa.Array) -> int:
    """The bytes of the values of an array, each one counted as often as it occurs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary)
        return pc.sum(pc.take(lengths, array.indices).cast(pa.int64())).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(map(_bytes_in, array.flatten()))
    if pa.types.is_map(kind):
        return _bytes_in(array.keys) + _bytes_in(array.items)
    if pa.types.is_nested(kind) and hasattr(array, "flatten"):
        return _bytes_in(array.flatten())
    return array.nbytes


def one(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column in one piece, where that is to be had, with times as fine as Python's."""
    import pyarrow as pa

    if (kind := in_microseconds(column.type)) != column.type:
        column = column.cast(kind, safe=False)
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type) or pa.types.is_nested(column.type):
        return column  # each piece has a dictionary of its own
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else column


def spelled_out(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column with texts in place of numbers into a dictionary, where they take no more than twice the
    memory: they are read faster one by one."""
    import pyarrow as pa

    if not isinstance(column, pa.DictionaryArray):
        return column
    small = _bytes_in(column) + 4 * len(column) <= 2 * column.nbytes
    return column.dictionary_decode() if small else column


def values_of(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values of a column; equal texts are one object.

    Raises:
        ValueError: one is no value of Python's.
    """
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return column.to_pylist()
    found = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        words = np.array([*chunk.dictionary.to_pylist(), None], object)
        found += words[chunk.indices.fill_null(len(words) - 1).to_numpy()].tolist()
    return found
