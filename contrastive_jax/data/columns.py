"""One field of many records: read side by side where they lie in a store."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any

from contrastive_jax.data.records import BrokenRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_AT_ONCE = 16
_AHEAD = 4096  # records that are asked for before the first of them is there


def column(name: str, rows: Sequence[int], read: Callable[[int], dict[str, Any]], remote: bool) -> list[Any]:
    """A field of these records; an empty string where one lacks it or is broken.

    Args:
        name: of the field.
        rows: the numbers of the records.
        read: gives the fields of a record; it is called from threads where `remote`.
        remote: whether each record is a request.

    Raises:
        KeyError: none of them has it.
    """

    def tried(row: int) -> dict[str, Any]:
        try:
            return read(row)
        except BrokenRecord:
            return {}

    values, seen = [], False
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(rows), _AHEAD):
            some = rows[start : start + _AHEAD]
            for record in pool.map(tried, some) if remote else map(tried, some):
                seen |= name in record
                values.append(record.get(name, ""))
    if len(rows) and not seen:
        raise KeyError(name)
    return values
