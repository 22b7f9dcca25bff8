"""The whole numbers of 32 bits that stand in a batch for a field of the records: themselves, or ids."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
import reprlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.faults import naming
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Int64, UInt64

    from contrastive_jax.data.records import Source

_ABSENT = "absent"
_TRIES = 100  # records that may be broken before one that tells the kind of a field
_AT_ONCE = 1 << 16  # values of which equal ones are hashed once
_ID_BITS = 31
_EXACT = 2**53  # beyond it a float is not one whole number alone
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,9})?", re.ASCII)
_ADVICE = "a batch field is a whole number or a text: give classes, bins or a whole number of smaller units"


class NoLabel(ValueError):  # noqa: N818
    """What a value is that is neither a whole number nor a text."""


def label(value: Any) -> int | str:
    """The whole number that a value is, or the text that is none.

    Whole numbers are those of Python, NumPy and Arrow, floats and decimals without a fraction (3.0), and
    texts that write one of these ("3", "3.0").

    Raises:
        NoLabel: a number that is not whole, also as a text ("0.83", "1e-3"), an absent value, or another
            thing.
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, int):
        return int(value)
    if value is None:
        raise NoLabel(_ABSENT)
    if hasattr(value, "as_py"):  # a scalar of Arrow
        return label(value.as_py())
    if isinstance(value, (np.generic, np.ndarray)) and isinstance(plain := value.tolist(), (int, float, str)):
        return label(plain)
    if isinstance(value, (float, Decimal)):
        return _whole(value)
    raise NoLabel(f"a {type(value).__name__}")


def _of_text(text: str) -> int | str:
    bare = text.strip()
    if not bare:
        raise NoLabel(_ABSENT)
    if bare[0].isalpha():
        return text
    if bare.lstrip("+-").isdecimal() and len(bare) < 100:
        return int(bare) if bare.count("+") + bare.count("-") < 2 else text
    if _DECIMAL.fullmatch(bare) is None:
        return text
    number = Decimal(bare)
    # Beyond that it is rather a code that looks like a number, such as 12e345.
    return _whole(number) if number.adjusted() < 16 else text


def _whole(number: Any) -> int:
    if math.isnan(number):
        raise NoLabel("no number at all (?keep= leaves such records out)")
    if math.isinf(number) or number != int(number):
        raise NoLabel("not a whole number")
    if isinstance(number, float) and abs(number) >= _EXACT:
        raise NoLabel("a float, which tells whole numbers of this size no longer apart")
    return int(number)


@dataclasses.dataclass(frozen=True)
class Numbering:
    """Numbers the values of one field: equal ones alike, different ones differently.

    Without `ids` they are whole numbers of 32 bits and stand for themselves. With them every value gets
    31 bits of a hash of 64 bits, and those for which these bits are taken already, the `moved`, get
    numbers that no other has.

    Args:
        field: of a record; of the second member that the sampler drew for a row with ``:1`` behind it.
        source: the name of the records' source.
        ids: whether values get ids.
        moved: the hashes of 64 bits, ascending, whose ids are `numbers`.
    """

    field: str
    source: str
    ids: bool = False
    moved: UInt64[np.ndarray, " e"] = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint64))
    numbers: Int64[np.ndarray, " e"] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def name(self) -> str:
        """The records' own name of the field."""
        return self.field.partition(":")[0]

    @property
    def member(self) -> int:
        """Which of the records that the sampler drew for a row."""
        return int(self.field.partition(":")[2] or 0)

    def of(self, field: str) -> Numbering:
        """The same of another member, whose values are no others."""
        return dataclasses.replace(self, field=field)

    def __call__(self, records: Sequence[dict[str, Any]], indices: Sequence[int]) -> int:
        """The number of a row, -2^31 <= number < 2^31; indices: of the row's records, to be named.

        Raises:
            InputError: the field is not there, or is neither a whole number nor a text, or too large.
        """
        member = self.member
        value, index = records[member].get(self.name), indices[member]
        try:
            found = label(value)
        except NoLabel as error:
            raise _refused(self.source, index, self.field, value, error) from None
        if self.ids:
            return self._id(_hash(value, found))
        if isinstance(found, str) or not _fits(found):
            what = "a text" if isinstance(found, str) else "a number of more than 32 bits"
            raise InputError(
                f"{self.source}, record {index}: batch field {self.field!r} is {what}, {_shown(value)}, and "
                "the first record's is a whole number of 32 bits: let all records hold texts"
            )
        return found

    def _id(self, hashed: int) -> int:
        place = np.searchsorted(self.moved, np.uint64(hashed))
        if place < len(self.moved) and self.moved[place] == hashed:
            return int(self.numbers[place])
        return hashed >> (64 - _ID_BITS)


def numbering(source: Source, field: str) -> Numbering:
    """How a field of a source is numbered, which its first record tells where that is an int of 32 bits.

    Else all records are looked at: if every value is a whole number of 32 bits, as in a CSV file, they stand
    for themselves, and if not they get ids. These depend on the different values alone, so they are the same
    in every process and after every start. It takes 8 bytes a record.

    Raises:
        InputError: no record has the field, or it is no label in one of them.
    """
    name = field.partition(":")[0]
    first = _first(source, name)
    if isinstance(first, (int, np.integer)) and _fits(int(first)):
        return Numbering(field, source.name)
    hashes, whole = _pass(source, name, field)
    if whole:
        return Numbering(field, source.name)
    if len(hashes) > 2**_ID_BITS:
        raise InputError(
            f"batch field {field!r} has {len(hashes)} values in {source.name}, and there are "
            f"{2**_ID_BITS} ids: leave some records out"
        )
    return Numbering(field, source.name, True, *moved(hashes))


def moved(
    hashes: UInt64[np.ndarray, " n"],
) -> tuple[UInt64[np.ndarray, " e"], Int64[np.ndarray, " e"]]:
    """Those of ascending, different hashes whose upper 31 bits are a smaller one's too, and for them the
    smallest numbers that are the upper bits of none."""
    folds = (hashes >> np.uint64(64 - _ID_BITS)).astype(np.int64)
    taken = np.zeros(len(folds), bool)
    taken[1:] = folds[1:] == folds[:-1]
    used = folds[~taken]
    free = np.arange(taken.sum())
    # Below the n-th used number lie so many that are not used.
    return hashes[taken], free + np.searchsorted(used - np.arange(len(used)), free, side="right")


def _first(source: Source, name: str) -> Any:
    for index in range(min(len(source), _TRIES)):
        try:
            with naming(source.name, [index]):
                return source[index].get(name)
        except BrokenRecord:
            continue
    return None


def _pass(source: Source, name: str, field: str) -> tuple[UInt64[np.ndarray, " n"], bool]:
    """The hashes of the different values, ascending, and whether all are whole numbers of 32 bits."""
    try:
        column = source.column(name)
    except KeyError:
        raise InputError(
            f"batch field {field!r} is neither a whole number nor a text in {source.name}"
        ) from None
    whole, parts = True, [np.zeros(0, np.uint64)]
    for start in range(0, len(column), _AT_ONCE):
        values = column[start : start + _AT_ONCE]
        values = values.tolist() if isinstance(values, np.ndarray) else values
        hashes = []
        for value in _different(values):
            try:
                found = label(value)
            except NoLabel as error:
                if str(error) == _ABSENT:  # or the record is broken: which, its reading finds out
                    continue
                raise _refused(source.name, start + _place(values, value), field, value, error) from None
            whole &= not isinstance(found, str) and _fits(found)
            hashes.append(_hash(value, found))
        parts.append(np.unique(np.array(hashes, np.uint64)))
    return np.unique(np.concatenate(parts)), whole


def _different(values: Sequence[Any]) -> Sequence[Any]:
    try:
        return list(dict.fromkeys(values))
    except TypeError:  # a list or the like, which is no label
        return values


def _place(values: Sequence[Any], value: Any) -> int:
    return next(place for place, other in enumerate(values) if other is value)


def _hash(value: Any, found: int | str) -> int:
    """Of a text as it stands ("007" is not "7"), or of a whole number as it is written."""
    text = value if isinstance(value, str) else str(found)
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def _fits(number: int) -> bool:
    return -(2**31) <= number < 2**31


def _shown(value: Any) -> str:
    return reprlib.repr(value)


def _refused(source: str, index: int, field: str, value: Any, why: NoLabel) -> InputError:
    if str(why) == _ABSENT:
        name = field.partition(":")[0]
        return InputError(
            f"{source}, record {index}: it has no {name!r}, which is a batch field; ?keep={name} leaves such "
            "records out"
        )
    return InputError(f"{source}, record {index}: batch field {field!r} is {_shown(value)}, {why}; {_ADVICE}")
