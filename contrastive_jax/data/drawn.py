"""Sources made of another one by lot: a part of it, a balanced part, or some values in wrong places.

The lots are the same in every run.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.configuration import nearest
from contrastive_jax.data import contents, curation
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.selection import Kept, fields_of
from contrastive_jax.data.streams import Streams
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Int64, UInt8

    from contrastive_jax.data.contents import Contents
    from contrastive_jax.data.records import Source


class Drawn(Kept):
    """The records of a source for which a mask (one bit a record) has a one; `option` is what drew it."""

    def __init__(self, source: Source, option: str, mask: UInt8[np.ndarray, " bytes"]) -> None:
        super().__init__(source, mask=mask)
        self.name, self._option = f"{source.name}?{option}", option
        if not len(self):
            raise InputError(f"source {self.name!r}: no record of {len(source)} is left")

    def __reduce__(self) -> tuple[type[Drawn], tuple[Any, ...]]:
        return Drawn, (self._source, self._option, self._mask)

    def contents(self) -> list[Contents]:
        """What its source is made of, and which records were drawn."""
        drawn = contents.of_content(self.name, len(self), [self._mask.tobytes()], {})
        return [*self._source.contents(), drawn]


def part(source: Source, text: str) -> Drawn:
    """``FIELD:LOW:HIGH``: the records in which a hash of the field's value, spread evenly from 0 to 1, lies
    from LOW up to HIGH. So records of equal value stay together, and ``0:0.8`` and ``0.8:1`` are two splits.

    Raises InputError for bounds that are none, an unknown field, and where nothing is left.
    """
    field, *bounds = text.rsplit(":", 2)
    low, high = [_number(bound) for bound in bounds] if len(bounds) == 2 else (math.nan, math.nan)
    if not field or not 0 <= low < high <= 1:
        raise InputError(f"option part={text!r}: give FIELD:LOW:HIGH, two ascending numbers from 0 to 1")
    keep = [low <= _place(field, value) < high for value in _column(source, field, "part")]
    return Drawn(source, f"part={text}", np.packbits(np.array(keep, bool)))


def balanced(source: Source, text: str) -> Drawn:
    """``FIELD:CAP``: a part of the records in which no word of the field drowns the others, by
    `curation.balance`; ``FIELD:CAP:FILE``: by the entries that a file lists, one a line, in place of words.

    Raises InputError for a cap that is none, an unknown field, a file that cannot be read, and where
    nothing is left.
    """
    field, cap, path = (*text.split(":", 2), "", "")[:3]
    if not field or not _number(cap) > 0:
        raise InputError(f"option balance={text!r}: give FIELD:CAP or FIELD:CAP:FILE, a CAP above 0")
    texts = [curation.together([value]) for value in _column(source, field, "balance")]
    entries = _entries(path) if path else sorted({word for each in texts for word in curation.words_of(each)})
    matches = curation.match(texts, entries)
    keep = curation.balance(matches, curation.counts(matches, len(entries)), _number(cap), key=0)
    return Drawn(source, f"balance={text}", np.packbits(keep))


class Exchanged:
    """A source in which some records have the field of another record: captions that are wrong.

    Args:
        source: whose values change places.
        field: of which.
        share: of the records, drawn by lot; each of them takes the value of the next one drawn, so that no
            value is lost. (It may be an equal one.)

    Raises:
        InputError: an unknown field, or a share that is none.
    """

    def __init__(self, source: Source, field: str, share: float) -> None:
        if not 0 < share <= 1:
            raise InputError(f"option exchange={field}:{share:g}: give FIELD:SHARE, a share up to 1")
        self._source, self._arguments = source, (field, share)
        self.name = f"{source.name}?exchange={field}:{share:g}"
        if field not in (known := fields_of(source)):
            raise InputError(f"source {self.name!r}: no field {field!r}; {nearest(field, known)}")
        self._from = _in_a_ring(len(source), share)

    @classmethod
    def of(cls, source: Source, text: str) -> Exchanged:
        """From ``FIELD:SHARE``."""
        field, _, share = text.rpartition(":")
        return cls(source, field, _number(share))

    def __reduce__(self) -> tuple[type[Exchanged], tuple[Any, ...]]:
        return Exchanged, (self._source, *self._arguments)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One record; raises what its source does, and BrokenRecord where the other one lacks the field."""
        record, field = self._source[index], self._arguments[0]
        other = int(self._from[index])
        if other == index:
            return record
        given = self._source[other]
        if field not in given:
            raise BrokenRecord(f"record {other} has no {field!r} to give to record {index}")
        return record | {field: given[field]}

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records. See `records.Source.column`."""
        if name != self._arguments[0]:
            return self._source.column(name, rows)
        if rows is not None:
            wanted, places = np.unique(self._from[rows], return_inverse=True)
            column = self._source.column(name, wanted.tolist())
            return [column[place] for place in places.tolist()]
        column = self._source.column(name)
        return column[self._from] if isinstance(column, np.ndarray) else [column[i] for i in self._from]

    def contents(self) -> list[Contents]:
        """What its source is made of."""
        return self._source.contents()


def _in_a_ring(count: int, share: float) -> Int64[np.ndarray, " n"]:
    """For each of `count` records whose value it has: its own, or, of a drawn share, the next one's."""
    drawn = Streams(0, "exchange").at(0, 0).permutation(count)[: round(share * count)]
    found = np.arange(count)
    found[drawn] = np.roll(drawn, -1)
    return found


def _place(field: str, value: Any) -> float:
    value = value.item() if isinstance(value, np.generic) else value
    # With the field's name: data sets are often divided already by a hash of the bare value.
    return int(hashlib.sha256(f"{field}={value}".encode()).hexdigest()[:8], 16) / 2**32


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        return float(text)
    return math.nan


def _column(source: Source, field: str, option: str) -> Sequence[Any]:
    try:
        return source.column(field)
    except KeyError:
        known = nearest(field, fields_of(source))
        raise InputError(f"source {source.name!r}: no field {field!r} for {option}=; {known}") from None


def _entries(path: str) -> list[str]:
    try:
        return curation.entries_of(path)
    except InputError as error:
        raise InputError(f"option balance=: {error}") from error
