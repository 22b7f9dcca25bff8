"""The texts that a view reads of records, as a person would read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from contrastive_jax.data.selection import no_field
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from contrastive_jax.data.records import Source
    from contrastive_jax.data.views import Text


def seen_text(view: Text, values: Sequence[Any]) -> str:
    """The text that a view makes of its fields' values when nothing is drawn, without its prompt."""
    parts = []
    for value in values:
        if isinstance(value, (list, tuple)):
            strings = [item for item in value if isinstance(item, str)]
            value = " ".join(filter(None, strings)) if view.join or view.rest else next(iter(strings), "")
        parts.append(value if isinstance(value, str) else "")
    return " ".join(filter(None, parts))


def seen_texts(source: Source, view: Text, fields: Sequence[str]) -> list[str]:
    """`seen_text` of these fields of all records; InputError where no record has the first of them."""
    columns = []
    for field in fields:
        try:
            columns.append(source.column(field))
        except KeyError:
            if field == fields[0]:
                raise InputError(no_field(source, field)) from None
            columns.append([""] * len(source))
    return [seen_text(view, values) for values in zip(*columns)]
