"""Pictures with captions, listed in a JSON-lines file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Int32


class Captions:
    """A random-access source over lines of ``{"image": path, "text": caption}``.

    A record is ``{"image": bytes of the picture's file, "text": str, "record": int32 line number from
    0}`` and whatever else the line holds. Only the offsets of the lines are kept in memory; pictures are
    read when asked for.

    Args:
        path: the JSON-lines file; the pictures' paths are relative to its folder. Blank lines are left out.

    Raises:
        InputError: the file cannot be read or holds no line.
    """

    def __init__(self, path: str) -> None:
        self.name = f"jsonl:{path}"
        self._path = Path(path)
        try:
            with self._path.open("rb") as file:
                lengths = [(len(line), not line.isspace()) for line in file]
        except OSError as error:
            raise InputError(f"source {self.name!r}: cannot read {path} ({error.strerror})") from error
        ends = np.cumsum([length for length, _ in lengths], dtype=np.int64)
        keep = np.array([filled for _, filled in lengths], bool)
        if not keep.any():
            raise InputError(f"source {self.name!r}: {path} holds no line; it needs one record a line")
        self._starts = np.concatenate([[0], ends[:-1]])[keep]
        self._ends = ends[keep]
        self._lines = np.flatnonzero(keep).astype(np.int32)

    def __reduce__(self) -> tuple[type[Captions], tuple[str]]:
        return Captions, (str(self._path),)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record.

        Raises:
            BrokenRecord: the line is no JSON object with both keys, or the picture cannot be read.
        """
        record = self._line(index)
        try:
            image = (self._path.parent / record["image"]).read_bytes()
        except (OSError, ValueError) as error:
            raise BrokenRecord(f"line {self._lines[index] + 1}: cannot read the picture ({error})") from error
        return record | {"image": image, "record": self._lines[index]}

    def column(self, name: str) -> Int32[np.ndarray, " N"] | list[Any]:
        """One field of all records, in order; a broken line's is an empty string.

        Raises:
            KeyError: it is the image, or a field that an intact line lacks.
        """
        if name == "record":
            return self._lines
        if name == "image":
            raise KeyError("image")
        values = []
        for index in range(len(self)):
            try:
                values.append(self._line(index)[name])
            except BrokenRecord:
                values.append("")
        return values

    def _line(self, index: int) -> dict[str, Any]:
        start, end = int(self._starts[index]), int(self._ends[index])
        with self._path.open("rb") as file:
            file.seek(start)
            line = file.read(end - start)
        where = f"line {self._lines[index] + 1}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise BrokenRecord(f"{where}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise BrokenRecord(f"{where}: not a JSON object")
        for key in ("image", "text"):
            if not isinstance(record.get(key), str):
                raise BrokenRecord(f"{where}: {key!r} is missing or not a string")
        return record
