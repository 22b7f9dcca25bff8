"""A folder of pictures, whose subfolders are classes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from contrastive_jax.data import files
from contrastive_jax.data.contents import Contents, of_files
from contrastive_jax.data.faults import Access
from contrastive_jax.data.named import LINKS, Named, allowed
from contrastive_jax.data.pictures import PICTURES
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Folder:
    """A random-access source over the pictures of a folder and of those below it, sorted by path.

    A record is ``{"key": path below the folder, "record", "image": the encoded picture}``. With subfolders it
    has ``label_name``, the first folder of its path, and ``label``, that name's place among the sorted ones.
    If pictures have a ``.txt`` of the same name beside them, what it holds is ``text``.

    Args:
        path: the folder; local or remote.
        allow: ``links``: a link may leave the folder, and links to folders are looked behind.
        access: of what is read.

    Raises:
        InputError: there is no such folder, no picture in it, or some lie in subfolders and some do not.
    """

    def __init__(self, path: str, allow: str = "", access: Access | None = None) -> None:
        self.name, self._folder = f"folder:{path}", os.path.expanduser(path).rstrip("/") or "/"
        self._arguments = self._folder, allow, access
        try:
            stores = allowed(allow)
            self._named = Named(self._folder, stores, access)
            found = set(files.below(self._folder, LINKS in stores))
        except InputError as error:
            raise InputError(f"source {self.name!r}: {error}") from error
        self._keys = sorted(key for key in found if key.rpartition(".")[2].lower() in PICTURES)
        if not self._keys:
            endings = ", ".join(sorted(PICTURES))
            behind = "" if LINKS in stores else "; behind links to folders with ?allow=links"
            raise InputError(f"source {self.name!r}: no picture in {path} (looked for {endings}{behind})")
        texts = sorted(key for key in found if key.lower().endswith(".txt"))  # .txt goes before .TXT
        self._texts = {_stem(key): key for key in texts}
        files.tell_left_out(self._folder, found.difference(self._keys, texts), sorted(PICTURES))
        self._captioned = any(_stem(key) in self._texts for key in self._keys)
        classes = sorted({key.partition("/")[0] for key in self._keys if "/" in key})
        self._labels = {name: number for number, name in enumerate(classes)}
        flat = next((key for key in self._keys if "/" not in key), None)
        if classes and flat:
            raise InputError(
                f"source {self.name!r}: {flat} lies beside the classes {classes[0]!r}, ...; "
                "put all pictures into subfolders, or none"
            )

    def __reduce__(self) -> tuple[type[Folder], tuple[Any, ...]]:
        return Folder, self._arguments

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record.

        Raises:
            BrokenRecord: its file is no regular one, leads out of the folder or is too large, or its text is
                no UTF-8.
            StoreFault: its file cannot be read, or is gone.
            IndexError: there is none of this number.
        """
        if not 0 <= index < len(self._keys):
            raise IndexError(f"record {index} of {len(self._keys)}")
        key = self._keys[index]
        record = {"key": key, "record": index, "image": self._read(key)}
        if self._labels:
            name = key.partition("/")[0]
            record |= {"label": self._labels[name], "label_name": name}
        if _stem(key) in self._texts:
            record["text"] = self._text(key)
        return record

    def contents(self) -> list[Contents]:
        """Its pictures and their texts."""
        texts = sorted({self._texts[stem] for stem in map(_stem, self._keys) if stem in self._texts})
        keys, sizes = [*self._keys, *texts], None
        if files.is_remote(self._folder):
            listed = files.listed_sizes(self._folder)
            sizes = [listed.get(key, 0) for key in keys]
        return [of_files(self.name, len(self), [f"{self._folder}/{key}" for key in keys], sizes)]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Sequence[Any]:
        """One field of all records; it reads no picture. See `records.Source.column`."""
        if name == "record":
            return range(len(self)) if rows is None else rows
        keys = list(self._keys) if rows is None else [self._keys[row] for row in rows]
        if name == "key":
            return keys
        if name in ("label", "label_name") and self._labels:
            names = [key.partition("/")[0] for key in keys]
            return names if name == "label_name" else [self._labels[each] for each in names]
        if name == "text" and self._captioned:
            return [self._column_text(key) if _stem(key) in self._texts else "" for key in keys]
        raise KeyError(name)

    def _read(self, key: str) -> bytes:
        try:
            return self._named.read(key, listed=True)
        except BrokenRecord as error:
            raise BrokenRecord(f"cannot be read: {error}") from error

    def _text(self, key: str) -> str:
        caption = self._texts[_stem(key)]
        try:
            return self._read(caption).decode().strip()
        except UnicodeDecodeError as error:
            raise BrokenRecord(f"{caption}: damaged ({error})") from error

    def _column_text(self, key: str) -> str:
        try:
            return self._text(key)
        except BrokenRecord:
            return ""


def _stem(key: str) -> str:
    return key.rpartition(".")[0]
