"""Sources made of another one: some of its records, or some of its fields under another name."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.configuration import nearest
from contrastive_jax.data import contents
from contrastive_jax.data.files import read
from contrastive_jax.data.inspection import spread
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from jaxtyping import Bool, UInt8

    from contrastive_jax.data.contents import Contents
    from contrastive_jax.data.records import Source

_TRIES = 100  # records that may be broken before one that tells the fields


class Kept:
    """Those records of a source in which some fields are there and not empty, or have one value, and whose
    keys are listed; of them, on request, a long tail.

    ``record`` is a record's number among the kept ones.

    Args:
        source: of which to keep some.
        fields: all of them must be there; a string of white space alone, an empty list and null are not.
        keys: a file with a key a line, of the records to keep; all by default.
        where: {field: value}, the value as JSON writes it (``false``, ``3``) or a bare word.
        tail: (field, ratio): of the C values of the field, sorted, the i-th from 0 keeps at most
            n ratio^(i / (C - 1)) records, n being the number of the commonest (Cui et al. 2019,
            arXiv:1901.05555); one at least. Which ones is a fixed draw, and a smaller ratio keeps a part of
            what a larger one does. Records without a value are left out.
        mask: what the others say, where that is known already (one bit a record).

    Raises:
        InputError: no record has such a field, the list cannot be read, or none is left.
    """

    def __init__(
        self,
        source: Source,
        fields: Sequence[str] = (),
        keys: str = "",
        where: Mapping[str, str] | None = None,
        tail: tuple[str, float] | None = None,
        mask: UInt8[np.ndarray, " bytes"] | None = None,
    ) -> None:
        where = dict(where or {})
        equal = ",".join(f"{field}:{value}" for field, value in where.items())
        options = {"keep": ",".join(fields), "keys": keys, "where": equal}
        options["tail"] = f"{tail[0]}:{tail[1]:g}" if tail else ""
        self.name = f"{source.name}?{'&'.join(f'{name}={value}' for name, value in options.items() if value)}"
        self._source, self._arguments = source, (tuple(fields), keys, where, tail)
        self._keys = keys
        if mask is None:
            keep = self._listed() if keys else np.ones(len(source), bool)
            for field in fields:
                keep &= _filled(self._column(field))
            for field, value in where.items():
                keep &= np.array([_written(v) == value for v in self._column(field)], bool)
            if not keep.any():
                raise InputError(f"source {self.name!r}: no record of {len(source)} is left")
            if tail:
                keep = self._tailed(keep, *tail)
            mask = np.packbits(keep)
        self._mask = mask
        self._indices = np.flatnonzero(np.unpackbits(mask, count=len(source)))

    def __reduce__(self) -> tuple[type[Kept], tuple[Any, ...]]:
        return Kept, (self._source, *self._arguments, self._mask)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One record; raises what its source does."""
        if not 0 <= index < len(self._indices):
            raise IndexError(f"record {index} of {len(self._indices)}")
        return self._source[int(self._indices[index])] | {"record": index}

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all kept records. See `records.Source.column`."""
        if name == "record":
            return range(len(self)) if rows is None else rows
        if rows is not None:
            return self._source.column(name, self._indices[rows].tolist())
        column = self._source.column(name)
        if isinstance(column, np.ndarray):
            return column[self._indices]
        return [column[index] for index in self._indices.tolist()]

    def contents(self) -> list[Contents]:
        """What its source is made of, how many records are kept, and by which list of keys."""
        listed = [_content(self.name, self._keys)] if self._keys else []
        return [*self._source.contents(), contents.of_content(self.name, len(self), listed, {})]

    def _listed(self) -> Bool[np.ndarray, " N"]:
        try:
            listed = set(_content(self.name, self._keys).decode().split("\n"))
        except UnicodeDecodeError as error:
            raise InputError(f"source {self.name!r}: cannot read {self._keys} ({error})") from error
        listed = {key.strip() for key in listed}
        return np.array([key in listed for key in self._source.column("key")], bool)

    def _tailed(self, keep: Bool[np.ndarray, " N"], field: str, ratio: float) -> Bool[np.ndarray, " N"]:
        column = self._column(field)
        indices = np.flatnonzero(keep & _filled(column))
        if not len(indices):
            raise InputError(f"source {self.name!r}: no record has a value in {field!r}")
        values = [v.item() if isinstance(v, np.generic) else v for v in (column[i] for i in indices.tolist())]
        try:
            known = sorted(set(values))
        except TypeError:
            raise InputError(f"source {self.name!r}: {field!r} holds values that cannot be sorted") from None
        places = {value: place for place, value in enumerate(known)}
        numbers = np.array([places[value] for value in values])
        sizes = np.bincount(numbers)
        limits = sizes.max() * ratio ** (np.arange(len(known)) / max(len(known) - 1, 1))
        tailed = np.zeros_like(keep)
        members = np.split(indices[np.argsort(numbers, kind="stable")], np.cumsum(sizes)[:-1])
        for number, (limit, of) in enumerate(zip(limits.tolist(), members)):
            order = np.random.Generator(np.random.Philox(number)).permutation(len(of))
            # Not cut at 9 where 1000 x 0.01 came out a hair below 10.
            tailed[of[order[: max(int(limit + 1e-9), 1)]]] = True
        return tailed

    def _column(self, field: str) -> Sequence[Any]:
        try:
            return self._source.column(field)
        except KeyError:
            known = nearest(field, fields_of(self._source))
            raise InputError(f"source {self.name!r}: no field {field!r} to keep by; {known}") from None


class Renamed:
    """A source some of whose fields have other names too, so that it can stand beside one that has them.

    Args:
        source: of which to rename fields.
        names: {new name: its own name}.

    Raises:
        InputError: it has no field of such a name.
    """

    def __init__(self, source: Source, names: Mapping[str, str]) -> None:
        pairs = ",".join(f"{own}:{new}" for new, own in names.items())
        self.name = f"{source.name}?rename={pairs}"
        self._source, self._names = source, dict(names)
        known = fields_of(source)
        for own in names.values():
            if own not in known and not _has_column(source, own):
                raise InputError(f"source {self.name!r}: no field {own!r}; {nearest(own, known)}")

    def __reduce__(self) -> tuple[type[Renamed], tuple[Any, ...]]:
        return Renamed, (self._source, self._names)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One record, with both names of a field; raises what its source does."""
        record = self._source[index]
        return record | {new: record[own] for new, own in self._names.items() if own in record}

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records. See `records.Source.column`."""
        return self._source.column(self._names.get(name, name), rows)

    def contents(self) -> list[Contents]:
        """What its source is made of."""
        return self._source.contents()


def _content(source: str, path: str) -> bytes:
    try:
        return read(path)
    except (OSError, InputError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"source {source!r}: cannot read {path} ({reason})") from error


def _has_column(source: Source, field: str) -> bool:
    try:
        source.column(field)
    except KeyError:
        return False
    return True


def fields_of(source: Source, wanted: Collection[str] | None = None) -> dict[str, Any]:
    """The fields of some records, each with the first value of it.

    Not every record has every field: of the records that can be read it looks at the first, and then at
    others from everywhere, until it has seen all `wanted` ones (None: at one record alone).
    """
    found: dict[str, Any] = {}
    for index in dict.fromkeys((*range(min(len(source), _TRIES)), *spread(len(source), _TRIES))):
        with contextlib.suppress(BrokenRecord):
            found = source[index] | found
        if found and (wanted is None or found.keys() >= set(wanted)):
            break
    return found


def no_field(source: Source, name: str, known: Iterable[str] | None = None) -> str:
    """What to say of a field that a source has not."""
    near = nearest(name, fields_of(source) if known is None else known)
    return f"{source.name} has no field {name!r}; {near}; ?rename=FIELD:{name} behind a source gives one so"


def _written(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _filled(column: Sequence[Any]) -> Bool[np.ndarray, " N"]:
    return np.array([bool(v.strip()) if isinstance(v, str) else _there(v) for v in column], bool)


def _there(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return not np.isnan(value)
    return value is not None and (not isinstance(value, (list, dict, bytes)) or len(value) > 0)
