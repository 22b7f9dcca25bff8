"""An embedded data set of three things, of which two tell the third: two handwritten digits and their sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.contents import Contents
from contrastive_jax.data.digits import NAMES, Digits
from contrastive_jax.data.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Sequence

PAIRS = 8  # records of each picture as the first of a pair


class DigitSums:
    """A random-access source of pairs of scikit-learn's digits with the last digit of their sum.

    The second picture of a pair is drawn by lot, the same in every run, so neither picture alone says
    anything of the sum. A record is ``{"image", "other": uint8 [8, 8], "label", "other_label", "sum": int
    from 0 to 9, "sum_name": "zero" ..., "key", "record"}``. This is the example of Symile (Saporta et al.
    2024, arXiv 2411.01053) with pictures.

    Args:
        split: ``train``, ``held_out`` or ``all``, of the pictures.

    Raises:
        InputError: scikit-learn is not installed.
    """

    def __init__(self, split: str = "train") -> None:
        self.name, self._split = f"digits:{split}_sums", split
        self._digits = Digits(split)
        count = len(self._digits)
        self._first = np.tile(np.arange(count), PAIRS)
        self._second = Streams(0, "digit sums").at(0, 0).integers(0, count, len(self._first))
        labels = np.asarray(self._digits.column("label"))
        self._labels = labels[self._first], labels[self._second]
        self._sums = sum(self._labels) % 10

    def __reduce__(self) -> tuple[type[DigitSums], tuple[str]]:
        return DigitSums, (self._split,)

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One pair; IndexError where there is none of this number."""
        if index < 0:
            raise IndexError(index)
        pair = self._first[index], self._second[index]
        one, other = (self._digits[int(number)] for number in pair)
        return {
            "key": str(index),
            "record": index,
            "image": one["image"],
            "other": other["image"],
            "label": one["label"],
            "other_label": other["label"],
            "sum": int(self._sums[index]),
            "sum_name": NAMES[self._sums[index]],
        }

    def contents(self) -> list[Contents]:
        """What the digits are made of, and how many pairs there are."""
        return [*self._digits.contents(), Contents(self.name, len(self))]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Any:
        """One field of all records; KeyError where there is none of this name, or it is a picture."""
        some = slice(None) if rows is None else rows
        rows = range(len(self)) if rows is None else rows
        columns = {
            "key": list(map(str, rows)),
            "record": rows,
            "label": self._labels[0][some].tolist(),
            "other_label": self._labels[1][some].tolist(),
            "sum": self._sums[some].tolist(),
            "sum_name": [NAMES[number] for number in self._sums[some]],
        }
        return columns[name]
