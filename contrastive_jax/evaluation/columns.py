"""Fields of all records of a source, as evaluators read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.data.selection import no_field
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


def column(source: Source, name: str) -> Any:
    """One field of all records; InputError where the source has none of that name."""
    try:
        return source.column(name)
    except KeyError:
        raise InputError(f"an evaluator asks for it: {no_field(source, name)}") from None


def single(source: Source, name: str) -> Sequence[Any]:
    """A field that holds one value, not several; InputError where a record holds a list."""
    values = column(source, name)
    several = next((number for number, value in enumerate(values) if _is_several(value)), None)
    if several is not None:
        raise InputError(f"{source.name}, record {several}: {name!r} is a list, and one value is asked for")
    return values


def labels(source: Source, name: str) -> Sequence[Any]:
    """A field that holds one value in every record; InputError where one has none."""
    values = single(source, name)
    missing = np.flatnonzero(~there(values))
    if len(missing):
        raise InputError(
            f"{source.name}, record {missing[0]}: it has no {name!r}; ?keep={name} leaves such records out"
        )
    return values


def there(values: Sequence[Any]) -> Bool[np.ndarray, " n"]:
    """Which of a field's values are one: an absent one is None, an empty text or no number (NaN)."""
    return np.array([not _is_absent(value) for value in values], bool)


def numbers(source: Source, name: str) -> Float[np.ndarray, " n"]:
    """A field of finite numbers; InputError where one is none."""
    values = column(source, name)
    try:
        values = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        values = None
    if values is None or not np.isfinite(values).all():
        raise InputError(f"{source.name}: the field {name!r} is not a number in every record")
    return values


def numbered(values: Sequence[Any]) -> tuple[list[Any], Int[np.ndarray, " n"]]:
    """The different values in order, and for each place the number of its value."""
    known = sorted(set(values), key=lambda value: (type(value).__name__, value))
    place = {value: number for number, value in enumerate(known)}
    return known, np.array([place[value] for value in values], int)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value) or _is_nan(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _is_several(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) or getattr(value, "ndim", 0) > 0
