"""What a source is, and the error for a record of it that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contrastive_jax.data.contents import Contents

_EXACT = 2**53  # beyond it a float is not one whole number alone


class BrokenRecord(InputError):  # noqa: N818
    """One record cannot be read; training replaces it, evaluation stops."""


_PREFIXES = 1 << 22  # characters that the names of nested objects may add to those of their fields


class Source(Protocol):
    """A random-access sequence of records; it pickles small, and workers open it anew.

    Every record has ``key``, a name of its own, and ``record``, its number in the source.
    """

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One record.

        Raises:
            BrokenRecord: it cannot be read.
            IndexError: there is none of this number.
        """
        ...

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records, in order, without the cost of making the records.

        A record that lacks the field, or is broken, gives an empty string.

        Args:
            name: of the field.
            rows: the numbers of the records to read it of, ascending; others are not read.

        Raises:
            KeyError: none of them has it, or it is a picture.
        """
        ...

    def contents(self) -> list[Contents]:
        """What it is made of, part by part, found out without reading it through.

        Raises:
            InputError: a file cannot be looked at.
        """
        ...


def flatten(value: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Nested objects as one: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``; lists stay as they are.

    Raises:
        BrokenRecord: the names of the nested ones would be copied to millions of characters.
    """
    flat: dict[str, Any] = {}
    left, levels = _PREFIXES, [(start, iter(value.items()))]
    while levels:
        prefix, items = levels[-1]
        for name, inner in items:
            nested = isinstance(inner, dict)
            left -= len(prefix) + (len(name) if nested else 0)
            if left < 0:
                raise BrokenRecord(
                    f"the names of its nested objects come to more than {_PREFIXES:,} characters"
                )
            if nested:
                levels.append((f"{prefix}{name}.", iter(inner.items())))
                break
            flat[prefix + name] = inner
        else:
            levels.pop()
    return flat


def comparable(values: Sequence[Any]) -> np.ndarray:
    """The values of a field as an array, in which different ones stay different.

    NumPy makes floats of whole numbers beyond 63 bits beside smaller ones, and of any beside fractions.
    """
    array = np.asarray(values)
    if array.dtype.kind != "f" or isinstance(values, np.ndarray):
        return array
    exact = all(not isinstance(value, int) or abs(value) <= _EXACT for value in values)
    return array if exact else np.fromiter(values, object, len(values))
