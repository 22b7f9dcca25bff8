"""Records that are not trained on, though they can be read: those that a config names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from contrastive_jax.configuration import nearest
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from contrastive_jax.data.records import Source


def numbers_of(source: Source, skip: Sequence[str | int]) -> frozenset[int]:
    """The numbers of the records that `skip` names, by key or by number; all that have such a key.

    Keys are looked up in the source's column of keys, once, and only if there are any.

    Raises:
        InputError: the source has no such record, or none is left.
    """
    keys = {name for name in skip if isinstance(name, str)}
    found = {name for name in skip if not isinstance(name, str)}
    for number in found:
        if not 0 <= number < len(source):
            raise InputError(
                f"config.data.skip: {source.name} has no record {number}; "
                f"it has {len(source)}, from 0 (a key that looks like a number is given as a text)"
            )
    if keys:
        seen = dict.fromkeys(keys, False)
        for number, key in enumerate(_keys(source)):
            if key in keys:
                seen[key] = True
                found.add(number)
        for key in skip:
            if not seen.get(key, True):
                raise InputError(
                    f"config.data.skip: {source.name} has no record of the key {key!r}; "
                    f"{nearest(key, set(map(str, _keys(source))))}"
                )
    if len(found) == len(source):
        raise InputError(f"config.data.skip leaves no record of {source.name}")
    return frozenset(found)


def _keys(source: Source) -> Iterable[str]:
    try:
        return source.column("key")
    except KeyError:
        return map(_key, [source] * len(source), range(len(source)))


def _key(source: Source, number: int) -> str:
    try:
        return source[number]["key"]
    except BrokenRecord:
        return ""
