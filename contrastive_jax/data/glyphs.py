"""The embedded default data: pictures of characters and their names."""

from __future__ import annotations

import functools
import hashlib
import itertools
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
from fontTools import unicodedata as scripts

from contrastive_jax.data.cache import cached
from contrastive_jax.data.contents import Contents, of_content

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Bool, Int32

SPLITS = ("train", "held_out", "all")
HELD_OUT_SHARE = 0.10


class Glyphs:
    """A random-access source of the pictures of one split.

    A record is ``{"key": such as "0041-DejaVuSans", "record": its number, "image": uint8 [32, 32] (ink 255
    on 0), "text": the character's Unicode name, "character": int32 code point, "picture": int32 (the same
    for byte-identical pictures), "look_alike": int32 group, "script": str such as "Latin", "face": str such
    as "DejaVuSans-Bold"}``.

    Characters that share a picture in any face stand in one look-alike group, and groups are held out
    whole, by a hash of their smallest code point: neither a held-out character nor its picture is ever
    in ``train``.

    Args:
        split: ``train``, ``held_out`` (about a tenth of the groups) or ``all``.
        one_per_character: keep one picture a character, that of DejaVu Sans if it has one.
    """

    name = "glyphs"

    def __init__(self, split: str = "train", one_per_character: bool = False) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}")
        self._arguments = (split, one_per_character)
        self._pictures = _table()["pictures"]
        columns = {name: column for name, column in _table().items() if name != "pictures"}
        keep = np.ones(len(columns["character"]), bool)
        if split != "all":
            keep = _held_out(columns["look_alike"]) == (split == "held_out")
        if one_per_character:
            # Rows stand by character and then by face, and DejaVu Sans is the first face.
            keep &= np.diff(columns["character"], prepend=-1) != 0
        self._columns = {name: column[keep] for name, column in columns.items()}

    def __reduce__(self) -> tuple[type[Glyphs], tuple[str, bool]]:
        # Workers open the cache themselves: 30 MB of pictures would be a slow parcel.
        return Glyphs, self._arguments

    def __len__(self) -> int:
        return len(self._columns["character"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        record: dict[str, Any] = {name: column[index] for name, column in self._columns.items()}
        record["image"] = self._pictures[record["picture"]]
        character, face = int(record["character"]), int(record["face"])
        record["record"] = index
        return record | {name: describe(character, face) for name, describe in _DESCRIPTIONS.items()}

    def contents(self) -> list[Contents]:
        """Its records and all pictures, and the versions of what draws them."""
        from contrastive_jax.data.rendering import VERSIONS

        held = (self._columns[name].tobytes() for name in sorted(self._columns))
        content = itertools.chain([self._pictures], held)
        return [of_content(self.name, len(self), content, {"drawn by": VERSIONS})]

    def column(self, name: str, rows: Sequence[int] | None = None) -> np.ndarray | list[str]:
        """One field of all records, in order: int32 [len(self)], or a list of str.

        Raises:
            KeyError: there is no such field, or it is the image.
        """
        rows = slice(None) if rows is None else rows
        if name == "record":
            return np.arange(len(self))[rows]
        if name not in _DESCRIPTIONS:
            return self._columns[name][rows]
        characters, faces = (self._columns[key][rows].tolist() for key in ("character", "face"))
        return [_DESCRIPTIONS[name](character, face) for character, face in zip(characters, faces)]


@functools.cache
def script_of(codepoint: int) -> str:
    """The script of a character, such as ``Latin``, ``Old Italic`` or ``Common``."""
    return scripts.script_name(scripts.script(chr(codepoint))).replace("_", " ")


@functools.cache
def _name_of(codepoint: int) -> str:
    return unicodedata.name(chr(codepoint))


def _face_of(number: int) -> str:
    from contrastive_jax.data.rendering import FACES

    return FACES[number]


_DESCRIPTIONS: dict[str, Callable[[int, int], str]] = {
    "key": lambda character, face: f"{character:04X}-{_face_of(face)}",
    "text": lambda character, face: _name_of(character),
    "script": lambda character, face: script_of(character),
    "face": lambda character, face: _face_of(face),
}


def look_alikes(
    character: Int32[np.ndarray, " N"], picture: Int32[np.ndarray, " N"]
) -> Int32[np.ndarray, " N"]:
    """The smallest code point among the characters joined by shared pictures, for each row.

    Two characters are joined when any picture of one is any picture of the other; groups are the
    connected components.
    """
    parent: dict[int, int] = {}

    def root(codepoint: int) -> int:
        while (above := parent.setdefault(codepoint, codepoint)) != codepoint:
            parent[codepoint] = parent[above]
            codepoint = above
        return codepoint

    first: dict[int, int] = {}
    for codepoint, shown in zip(character.tolist(), picture.tolist()):
        one, other = root(codepoint), root(first.setdefault(shown, codepoint))
        parent[max(one, other)] = min(one, other)
    return np.array([root(codepoint) for codepoint in character.tolist()], np.int32)


def _held_out(group: Int32[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    distinct, inverse = np.unique(group, return_inverse=True)
    hashes = [hashlib.sha256(str(codepoint).encode()).digest() for codepoint in distinct]
    share = np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in hashes])
    return (share < HELD_OUT_SHARE)[inverse]


@functools.cache
def _table() -> dict[str, np.ndarray]:
    from contrastive_jax.data import rendering

    table = cached(f"glyphs-{rendering.VERSIONS}", rendering.render)
    table["look_alike"] = look_alikes(table["character"], table["picture"])
    for column in table.values():
        column.setflags(write=False)
    return table
