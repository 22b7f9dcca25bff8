"""Several sources, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.files import Places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contrastive_jax.data.records import Source


class Concatenation:
    """The records of several sources, one source after another.

    A record is its source's, with ``source`` (the number of the part), ``record`` (its number here) and
    ``key`` (``part:key``, since two parts may use the same).

    Args:
        parts: at least one source.
    """

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = list(parts)
        self.name = " + ".join(part.name for part in self.parts)
        self._places = Places([len(part) for part in self.parts])

    def __reduce__(self) -> tuple[type[Concatenation], tuple[list[Source]]]:
        return Concatenation, (self.parts,)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One record; raises what its source does."""
        part, row = self._places[index]
        record = self.parts[part][row]
        return record | {"source": part, "record": index, "key": f"{part}:{record['key']}"}

    def column(self, name: str) -> Sequence[Any]:
        """One field of all records; those of a part that has no such field give an empty string.

        Raises:
            KeyError: no part has it.
        """
        if name == "record":
            return range(len(self))
        if name == "source":
            return np.repeat(np.arange(len(self.parts)), [len(part) for part in self.parts])
        columns: list[Sequence[Any] | None] = []
        for number, part in enumerate(self.parts):
            try:
                column = part.column(name)
                columns.append([f"{number}:{key}" for key in column] if name == "key" else column)
            except KeyError:
                columns.append(None)
        if all(column is None for column in columns):
            raise KeyError(name)
        filled = [[""] * len(part) if c is None else c for c, part in zip(columns, self.parts)]
        return [value for column in filled for value in column]
