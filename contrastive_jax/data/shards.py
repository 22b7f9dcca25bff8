"""One ArrayRecord shard of a source: a run of its records, written whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contrastive_jax.data.contents import difference, from_json
from contrastive_jax.data.faults import naming
from contrastive_jax.data.pictures import is_picture, look, shrink
from contrastive_jax.data.records import BrokenRecord, Source
from contrastive_jax.data.serialization import encode
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError
from contrastive_jax.locking import partial_path, write_atomically
from contrastive_jax.named_files import json_of

# Each record in a group of its own: that is what makes reading one of them cheap.
_OPTIONS = "group_size:1"


@dataclass(frozen=True)
class Plan:
    """What a folder of shards is made of: `records` records of a source, cut into `shards` runs of nearly
    the same length; resize: the length of the shorter side of larger pictures, or None; data: what the
    source is made of, JSON of `contents.as_json`, or nothing where that is not known."""

    source: str
    records: int
    shards: int
    resize: int | None = None
    data: str = ""

    def run(self, shard: int) -> range:
        """The records of a shard."""
        return range(self.records * shard // self.shards, self.records * (shard + 1) // self.shards)

    def name(self, shard: int) -> str:
        """The file of a shard: records-00003-of-00010.arrayrecord."""
        return f"records-{shard:05d}-of-{self.shards:05d}.arrayrecord"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"data": json.loads(self.data or "[]")}


def write_shard(plan: Plan, folder: str, shard: int) -> dict[str, Any]:
    """Writes a shard into the folder, and beside it what it returns, under the name that `summary` reads.

    The file appears by a rename, and the summary after it: a kill leaves neither half written. A record
    that cannot be read, or whose picture cannot be decoded, is left out.

    Returns:
        {"file", "records", "bytes", "sha256", "broken": [{"record", "why"}]}.

    Raises:
        InputError: a field of a record is of a type that cannot be written, or the source is another one
            than the plan's.
        OSError: the shard cannot be written.
    """
    final = Path(folder) / plan.name(shard)
    partial = partial_path(final)
    try:
        count, broken = _write(_opened(plan), plan, partial, shard)
        found = {"file": final.name, "records": count, "bytes": partial.stat().st_size}
        found |= {"sha256": _digest(partial), "broken": broken}
        os.replace(partial, final)
        write_atomically(summary_path(final), json.dumps(found).encode())
    finally:
        partial.unlink(missing_ok=True)
    return found


def summary(plan: Plan, folder: str | Path, shard: int) -> dict[str, Any] | None:
    """What `write_shard` returned for a shard that is there whole; None for another."""
    final = Path(folder) / plan.name(shard)
    try:
        found = json_of(summary_path(final))
        return found if found["bytes"] == final.stat().st_size else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def summary_path(file: Path) -> Path:
    """Where the summary of a shard lies until all are done."""
    return file.with_name(f".{file.name}.json")


@functools.lru_cache(maxsize=1)
def _opened(plan: Plan) -> Source:
    source = open_source(plan.source)
    if plan.data and (words := difference(source.contents(), from_json(json.loads(plan.data)))):
        raise InputError(f"--source {plan.source} is not what it was at the start: {words}")
    return source


def _write(source: Source, plan: Plan, path: Path, shard: int) -> tuple[int, list[dict[str, Any]]]:
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    count, broken = 0, []
    with _told_as_os_error():
        writer = ArrayRecordWriter(str(path), _OPTIONS)
    try:
        for index in plan.run(shard):
            try:
                with naming(source.name, [index]):
                    record = source[index]
                record = prepared(record, plan.resize)
            except BrokenRecord as error:
                broken.append({"record": index, "why": str(error)})
                continue
            content = encode(record)
            with _told_as_os_error():
                writer.write(content)
            count += 1
    finally:
        with _told_as_os_error():
            writer.close()
    reader = ArrayRecordReader(str(path))
    # The writer does not notice all that goes wrong.
    if not reader.ok() or reader.num_records() != count:
        raise OSError(f"{path} was not written whole (is the disk full?)")
    reader.close()
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return count, broken


@contextlib.contextmanager
def _told_as_os_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # "write() failed: No space left on device; writing PATH; ..."
        raise OSError(str(error).partition(";")[0]) from error


def prepared(record: dict[str, Any], resize: int | None) -> dict[str, Any]:
    """A record as it is written: without its number, its pictures decoded once, and made smaller.

    Raises:
        BrokenRecord: a picture cannot be decoded.
    """
    fields = {name: value for name, value in record.items() if name != "record"}
    for name, value in fields.items():
        if is_picture(name, value):
            if resize is None:
                look(value)
            else:
                fields[name] = shrink(value, resize)
    return fields


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
