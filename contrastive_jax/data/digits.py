"""An embedded data set: scikit-learn's handwritten digits."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.contents import Contents, of_content
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Int64, UInt8

SPLITS = ("train", "held_out", "all")
HELD_OUT_SHARE = 0.20
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Digits:
    """A random-access source of 1,797 pictures of ten digits (Alpaydin and Kaynak 1998).

    A record is ``{"image": uint8 [8, 8] (ink up to 255 on 0), "label": int, "label_name": "zero" ...,
    "key": its number in scikit-learn, "record"}``.

    Args:
        split: ``train``, ``held_out`` (a fifth, by a hash of the number) or ``all``.

    Raises:
        InputError: scikit-learn is not installed.
    """

    def __init__(self, split: str = "train") -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}")
        self.name, self._split = f"digits:{split}", split
        self._pictures, self._labels = _table()
        numbers = range(len(self._labels))
        kept = [number for number in numbers if split == "all" or _held_out(number) == (split == "held_out")]
        self._numbers: Int64[np.ndarray, " n"] = np.array(kept)

    def __reduce__(self) -> tuple[type[Digits], tuple[str]]:
        return Digits, (self._split,)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One picture; IndexError where there is none of this number."""
        if index < 0:
            raise IndexError(index)
        number = int(self._numbers[index])
        label = int(self._labels[number])
        return {
            "key": str(number),
            "record": index,
            "image": self._pictures[number],
            "label": label,
            "label_name": NAMES[label],
        }

    def contents(self) -> list[Contents]:
        """All pictures and labels, and the version of what they are from."""
        held = [self._pictures.tobytes(), self._labels.tobytes()]
        versions = {"scikit-learn": importlib.metadata.version("scikit-learn")}
        return [of_content(self.name, len(self), held, versions)]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Any:
        """One field of all records; KeyError where there is none of this name, or it is the image."""
        numbers = self._numbers if rows is None else self._numbers[rows]
        labels = self._labels[numbers].tolist()
        columns = {
            "key": [str(number) for number in numbers.tolist()],
            "record": range(len(self)) if rows is None else rows,
            "label": labels,
            "label_name": [NAMES[label] for label in labels],
        }
        return columns[name]


def _held_out(number: int) -> bool:
    return int(hashlib.sha256(str(number).encode()).hexdigest()[:8], 16) / 2**32 < HELD_OUT_SHARE


@functools.cache
def _table() -> tuple[UInt8[np.ndarray, "N 8 8"], Int64[np.ndarray, " N"]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("source 'digits' needs scikit-learn: pip install 'contrastive-jax[eval]'") from error
    images, labels = load_digits(return_X_y=True)
    pictures = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    pictures.setflags(write=False)
    return pictures, labels
