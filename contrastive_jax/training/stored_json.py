"""JSON in the folder of a run: read in one place, against a small schema, whoever wrote it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from contrastive_jax.errors import InputError

FIGURES = {"step": int}
"""The schema of what has a step: a line of metrics, a result. Beside it stand numbers, texts and null."""


_WORDS = {int: "a whole number from 0", dict: "an object"}


def parsed(
    content: bytes, where: str, advice: str, schema: Mapping[str, type] | None = None, flat: bool = False
) -> dict[str, Any]:
    """The JSON object that `content` holds.

    Args:
      where: the file, or its line, as the message names it.
      advice: what to do about one that cannot be used.
      schema: fields that must be there, with their types; a whole number is 0 or more.
      flat: no value holds others, and every number is finite.

    Raises:
      InputError: it is not such an object.
    """
    try:
        stored = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} cannot be read ({error}): {advice}") from error
    if not isinstance(stored, dict):
        raise InputError(f"{where} holds no JSON object: {advice}")
    for name, kind in (schema or {}).items():
        if not _is(stored.get(name), kind):
            shown = f"{name}={str(stored[name])[:60]!r}" if name in stored else f"no {name}"
            raise InputError(f"{where} has {shown}, where {_WORDS[kind]} is wanted: {advice}")
    for name, value in stored.items() if flat else ():
        if not _is_flat(value):
            raise InputError(
                f"{where} has {name[:60]}={str(value)[:60]!r}, where a finite number, a text or null is "
                f"wanted: {advice}"
            )
    return stored


def _is(value: Any, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return isinstance(value, kind)


def _is_flat(value: Any) -> bool:
    if isinstance(value, (int, float)):
        return abs(value) < math.inf and (isinstance(value, float) or abs(value) < 2**1023)
    return value is None or isinstance(value, str)
