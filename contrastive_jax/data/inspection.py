"""What a source holds: its fields, its pictures, its texts, and what of it is broken."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from contrastive_jax.data.faults import naming
from contrastive_jax.data.pictures import Look, is_picture, look
from contrastive_jax.data.records import BrokenRecord, Source

_AHEAD = 256
_EXAMPLES = 3
_LISTED = 100


def inspect(
    source: Source, indices: Sequence[int], advance: Callable[[int], None] = lambda count: None
) -> dict[str, Any]:
    """A report, all of it JSON: the records with these indices are read and their pictures decoded; keys
    are compared over the whole source.

    Returns:
        {"source", "records", "read", "broken", "broken_records": [{"record", "key", "why"}] (100 at most),
        "fields": {name: {"types", "missing", "empty", "examples", ...}}, "pictures": {field: ...},
        "duplicate_keys", "duplicate_key_examples"}. A field of numbers has "minimum" and "maximum"; one of
        texts (or lists of them) has "characters", their [least, median, most].
    """
    keys = _keys(source)
    fields: dict[str, _Field] = collections.defaultdict(_Field)
    looks: dict[str, list[Look]] = collections.defaultdict(list)
    broken, intact = [], 0
    for index, record, seen, why in _read_all(source, indices):
        advance(1)
        for name, value in record.items():
            fields[name].see(value)
        for name, found in seen.items():
            looks[name].append(found)
        if why:
            key = keys[index] if keys is not None else record.get("key")
            broken.append({"record": index, "key": key and written(key), "why": written(why)})
        intact += bool(record)
    duplicates = [key for key, count in collections.Counter(keys or ()).items() if count > 1]
    return {
        "source": source.name,
        "records": len(source),
        "read": len(indices),
        "broken": len(broken),
        "broken_records": broken[:_LISTED],
        "fields": {name: field.report(intact) for name, field in fields.items()},
        "pictures": {name: _of_looks(found) for name, found in looks.items()},
        "duplicate_keys": len(duplicates),
        "duplicate_key_examples": [written(key) for key in duplicates[:_LISTED]],
    }


def spread(count: int, most: int | None) -> Sequence[int]:
    """At most `most` of 0..count - 1, evenly spread; all of them where None."""
    if most is None or most >= count:
        return range(count)
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def _keys(source: Source) -> list[Any] | None:
    try:
        return list(source.column("key"))
    except KeyError:
        return None


def _read_all(
    source: Source, indices: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any], dict[str, Look], str | None]]:
    """(index, record, its pictures, what is broken of it), in order, read by threads."""

    def read(index: int):
        try:
            with naming(source.name, [index]):
                record = source[index]
        except BrokenRecord as error:
            return index, {}, {}, str(error)
        looks, why = {}, None
        for name, value in record.items():
            if is_picture(name, value):
                try:
                    looks[name] = look(value)
                except BrokenRecord as error:
                    why = f"{name}: {error}"
        return index, record, looks, why

    with ThreadPoolExecutor() as pool:
        remaining = iter(indices)
        while batch := [pool.submit(read, int(i)) for i in itertools.islice(remaining, _AHEAD)]:
            for future in batch:
                yield future.result()


class _Field:
    """What is known of one field after some records."""

    def __init__(self) -> None:
        self.types: collections.Counter[str] = collections.Counter()
        self.examples: list[Any] = []
        self.lengths: list[int] = []
        self.least, self.most = math.inf, -math.inf
        self.empty = 0

    def see(self, value: Any) -> None:
        self.types[_type(value)] += 1
        if value is None or (isinstance(value, (str, bytes, list, dict)) and not value):
            self.empty += 1
            return
        number = value.item() if isinstance(value, np.number) else value
        if _is_whole(number) or (isinstance(number, float) and math.isfinite(number)):
            self.least, self.most = min(self.least, number), max(self.most, number)
        texts = value if isinstance(value, list) else [value]
        self.lengths += [len(text) for text in texts if isinstance(text, str)]
        example = _example(value)
        if len(self.examples) < _EXAMPLES and example not in self.examples:
            self.examples.append(example)

    def report(self, records: int) -> dict[str, Any]:
        there = sum(self.types.values())
        found: dict[str, Any] = {
            "types": dict(self.types.most_common()),
            "missing": records - there,
            "empty": self.empty,
            "examples": self.examples,
        }
        if self.most >= self.least:
            found |= {"minimum": _plain(self.least), "maximum": _plain(self.most)}
        if self.lengths:
            found["characters"] = _three(self.lengths)
        return found


def _type(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, list):
        return f"list of {_type(value[0])}" if value else "list"
    if value is None:
        return "null"
    names = {str: "text", bytes: "bytes", bool: "bool", dict: "object"}
    if _is_whole(value):
        return "whole number"
    return (
        "number" if isinstance(value, (float, np.floating)) else names.get(type(value), type(value).__name__)
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _example(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, np.ndarray):
        return _type(value)
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = " ".join(written(value).split())
    return text if len(text) <= 80 else f"{text[:79]}…"


def written(value: Any) -> str:
    """Its text, in which halves of characters and bytes of names that are no UTF-8 are escaped."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _plain(value: float) -> int | float:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _three(values: Sequence[int]) -> list[int]:
    return [min(values), int(np.median(values)), max(values)]


def _of_looks(looks: Sequence[Look]) -> dict[str, Any]:
    return {
        "decoded": len(looks),
        "width": _three([seen.width for seen in looks]),
        "height": _three([seen.height for seen in looks]),
        "formats": dict(collections.Counter(seen.format for seen in looks).most_common()),
        "modes": dict(collections.Counter(seen.mode for seen in looks).most_common()),
    }
