"""Embeddings in files: Parquet, or .npy with a .json beside it; read block by block."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.quantization import Range, quantize, restore, stored_dtype, width
from contrastive_jax.locking import partial_path
from contrastive_jax.named_files import check_regular, read_regular

if TYPE_CHECKING:
    from jaxtyping import Float, Int

FORMAT = 1
ENDINGS = (".parquet", ".npy")
_METADATA = b"contrastive_jax"


class Part(NamedTuple):
    """Some records: their keys, their numbers in the source, their embeddings."""

    keys: Sequence[str]
    records: Int[np.ndarray, " n"]
    embeddings: Float[np.ndarray, "n d"]


class Held:
    """Embeddings in memory, read as those in a file are."""

    dtype = "float32"

    def __init__(self, part: Part) -> None:
        self.keys, self.records, self._embeddings = part

    def __len__(self) -> int:
        return len(self.records)

    def blocks(self, rows: int = 65536) -> Iterator[tuple[int, Float[np.ndarray, "b d"]]]:
        """As `Embeddings.blocks`."""
        for start in range(0, len(self), rows):
            yield start, self._embeddings[start : start + rows]


class Embeddings:
    """What a file holds. metadata: what `write` was given, with "dtype", "dimensions" and, of int8,
    "scale" and "offset".

    Raises:
        InputError: it cannot be read, or is none of ours.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.metadata, self.keys, self.records = _open(self.path)
            self.dtype, self.dimensions = self.metadata["dtype"], int(self.metadata["dimensions"])
            self.codes = _range(self.metadata)
        except InputError:
            raise
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file ({Path(error.filename or path).name})") from error
        except Exception as error:  # what Arrow raises is of many kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{path}: no embeddings that `contrastive-jax embed` wrote ({reason})"
            ) from error

    def __len__(self) -> int:
        return len(self.records)

    def blocks(self, rows: int = 65536) -> Iterator[tuple[int, Float[np.ndarray, "b d"]]]:
        """(first row, embeddings as float32), `rows` at a time."""
        for start, codes in _codes(self.path, self.dtype, width(self.dimensions, self.dtype), rows):
            yield start, restore(codes, self.dtype, self.dimensions, self.codes)


def write(path: Path, parts: Iterable[Part], metadata: dict[str, Any]) -> None:
    """Writes parts one after another as "dtype" of the metadata says; the file is there whole or not at all.

    Beside an .npy stands the .json, written after it, with the keys and the metadata.

    Args:
        metadata: JSON, with "dtype", "dimensions" and, for int8, "scale" and "offset".
    """
    metadata = {"format": FORMAT, **metadata}
    dtype, codes = metadata["dtype"], _range(metadata)
    quantized = ((part, quantize(part.embeddings, dtype, codes)) for part in parts)
    partial = partial_path(path)
    try:
        (_write_parquet if path.suffix == ".parquet" else _write_npy)(path, partial, quantized, metadata)
    finally:
        partial.unlink(missing_ok=True)


def _range(metadata: dict[str, Any]) -> Range | None:
    if metadata["dtype"] != "int8":
        return None
    return Range(*(np.asarray(metadata[name], np.float32) for name in ("scale", "offset")))


def _write_parquet(path: Path, partial: Path, quantized, metadata: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = width(metadata["dimensions"], metadata["dtype"])
    number = pa.from_numpy_dtype(stored_dtype(metadata["dtype"]))
    fields = [("key", pa.string()), ("record", pa.int64()), ("embedding", pa.list_(number, size))]
    schema = pa.schema(fields, metadata={_METADATA: json.dumps(metadata)})
    # Dictionaries and statistics of numbers that hardly repeat cost more than they save.
    options = dict(use_dictionary=False, write_statistics=False, compression="zstd")
    with pq.ParquetWriter(partial, schema, **options) as writer:
        for part, codes in quantized:
            column = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1), number), size)
            columns = [pa.array(part.keys, pa.string()), pa.array(part.records, pa.int64()), column]
            writer.write_table(pa.table(columns, schema=schema))
    _settle(partial, path)


def _write_npy(path: Path, partial: Path, quantized, metadata: dict[str, Any]) -> None:
    keys, records, all_codes = [], [], []
    for part, codes in quantized:
        keys += part.keys
        records += np.asarray(part.records).tolist()
        all_codes.append(codes)
    with open(partial, "wb") as file:
        np.save(file, np.concatenate(all_codes), allow_pickle=False)
    _settle(partial, path)
    partial.write_text(json.dumps({"metadata": metadata, "keys": keys, "records": records}), encoding="utf-8")
    _settle(partial, path.with_suffix(".json"))


def _settle(partial: Path, path: Path) -> None:
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def _open(path: Path) -> tuple[dict[str, Any], Sequence[str], Int[np.ndarray, " n"]]:
    if path.suffix in ENDINGS:
        check_regular(path)
    if path.suffix == ".npy":
        there = json.loads(read_regular(path.with_suffix(".json"), limit=None))
        count = len(np.load(path, mmap_mode="r", allow_pickle=False))
        if count != len(there["records"]):
            raise InputError(f"{path} has {count} rows and its .json {len(there['records'])}: embed again")
        metadata, keys, records = there["metadata"], there["keys"], there["records"]
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            metadata = json.loads((file.schema_arrow.metadata or {})[_METADATA])
            table = file.read(["key", "record"])
        keys, records = table["key"].to_pylist(), table["record"].to_numpy()
    else:
        raise InputError(f"{path}: give a file that ends in {' or '.join(ENDINGS)}")
    if metadata["format"] != FORMAT:
        raise InputError(f"{path} is of format {metadata['format']}, and this version reads {FORMAT}")
    return metadata, keys, np.asarray(records, np.int64)


def _codes(path: Path, dtype: str, size: int, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    if path.suffix == ".npy":
        codes = np.load(path, mmap_mode="r", allow_pickle=False)
        yield from ((start, np.asarray(codes[start : start + rows])) for start in range(0, len(codes), rows))
        return
    import pyarrow.parquet as pq

    start = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(rows, columns=["embedding"]):
                flat = batch.column(0).flatten().to_numpy(zero_copy_only=False)
                yield start, flat.reshape(-1, size).astype(stored_dtype(dtype), copy=False)
                start += len(batch)
    except (OSError, ValueError) as error:  # of both kinds is what Arrow says of damage
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0][:200]}): embed again") from error
