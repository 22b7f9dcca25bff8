"""Indexes of files: made on first use, kept beside the file or in the cache, made anew when it changed."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_jax.data import cache
from contrastive_jax.data.bounds import INDEX_BYTES, INDEX_TIMES
from contrastive_jax.data.files import is_remote, stamp
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.serialization import decode, encode
from contrastive_jax.errors import InputError
from contrastive_jax.named_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


def indexed(path: str, kind: str, make: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """`make(path)`, numbers and arrays of numbers; kept, with a checksum, as ``NAME.index``.

    It lies beside the file, or in the cache folder where the file is remote or its folder is not to be
    written. It is made anew if the file's size, time of change or etag differ, or if it is torn. Processes
    that make it at once write the same bytes.

    Args:
        path: the file.
        kind: what is indexed, with a version: another one's index is made anew.
        make: makes the index from the file.
    """
    what = {"kind": kind, "stamp": stamp(path)}
    places = _places(path)
    for place in places:
        index = _read(place, max(INDEX_BYTES, INDEX_TIMES * int(what["stamp"][0])))
        if index is not None and {name: index.get(name) for name in what} == what:
            return index
    index = make(path) | what
    place = places[0] if _may_write(places[0].parent) else places[-1]
    content = encode(index)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        cache.replace(place, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    except OSError as error:
        warn(f"cannot keep the index {place} ({error.strerror or error}); it is made again next time")
    return index


def warn(message: str) -> None:
    """Logs a warning, but not again in every worker."""
    level = logging.WARNING if multiprocessing.parent_process() is None else logging.DEBUG
    _log.log(level, "%s", message)


def _places(path: str) -> list[Path]:
    name = path.rsplit("/", 1)[-1]
    whole = path if is_remote(path) else os.path.abspath(path)
    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    kept = cache.folder() / "indexes" / f"{digest}-{name}.index"
    return [kept] if is_remote(path) else [Path(f"{path}.index"), kept]


def _may_write(folder: Path) -> bool:
    # The system lets root write anywhere; a folder without any write bit says that it is not to be.
    return not folder.exists() or (bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK))


def _read(place: Path, most: int) -> dict[str, Any] | None:
    try:
        digest, _, content = read_regular(place, most).partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        warn(f"{place} cannot be read ({error.strerror or error}); making it again")
        return None
    except InputError as error:
        warn(f"the index {error}; making it again")
        return None
    if digest == hashlib.sha256(content).hexdigest().encode():
        try:
            return decode(content)
        except BrokenRecord:
            pass
    warn(f"{place} is damaged; making it again")
    return None
