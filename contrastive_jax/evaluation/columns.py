"""Fields of all records of a source, as evaluators read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def column(source: Source, name: str) -> Any:
    """One field of all records; InputError where the source has none of that name."""
    try:
        return source.column(name)
    except KeyError:
        raise InputError(f"{source.name} has no field {name!r}, which an evaluator asks for") from None


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
