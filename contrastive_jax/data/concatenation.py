"""Several sources, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.files import Places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contrastive_jax.data.contents import Contents
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

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records; those of a part that has no such field give an empty string.

        Raises:
            KeyError: no part has it.
        """
        if name == "record":
            return range(len(self)) if rows is None else rows
        shares = self._shares(rows)
        lengths = [len(part) if of is None else len(of) for part, of in zip(self.parts, shares)]
        if name == "source":
            return np.repeat(np.arange(len(self.parts)), lengths)
        columns: list[Sequence[Any] | None] = []
        for number, (part, of) in enumerate(zip(self.parts, shares)):
            try:
                column = part.column(name, of) if of is None or of else ()
                columns.append([f"{number}:{key}" for key in column] if name == "key" else column)
            except KeyError:
                columns.append(None)
        if all(column is None for column in columns):
            raise KeyError(name)
        filled = [[""] * length if c is None else c for c, length in zip(columns, lengths)]
        return [value for column in filled for value in column]

    def contents(self) -> list[Contents]:
        """What all parts are made of."""
        return [each for part in self.parts for each in part.contents()]

    def _shares(self, rows: Sequence[int] | None) -> list[list[int] | None]:
        """The rows of each part, by its own numbers; None for all."""
        shares: list[list[int] | None] = [None if rows is None else [] for _ in self.parts]
        for row in () if rows is None else rows:
            part, own = self._places[int(row)]
            shares[part].append(own)
        return shares
