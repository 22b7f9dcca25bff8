"""What a source is made of: enough to notice that it is another one by now, and to say where."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data import files
from contrastive_jax.errors import InputError
from contrastive_jax.named_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LISTED = 4096
"""So many files, or else folders, are listed with their sizes; of more there are counts and a digest."""

_AT_ONCE = 16  # files that are asked for their sizes together
_BLOCKS, _BLOCK = 256, 4096  # blocks of all files that are read, and bytes of each


@dataclasses.dataclass(frozen=True)
class Contents:
    """One part of what a source is made of. It is the same wherever that lies and whenever it was written.

    Attributes:
        name: of the source, to speak of it.
        records: how many there are.
        count: of files.
        bytes: of all files.
        digest: of their names and sizes, in their order.
        files: {short name: bytes}; of more than `LISTED` {folder: bytes of what is in it}, if they are fewer.
        samples: {short name: digest of some blocks of it}, of files on this machine; they differ where a
            file has been replaced by one of equal size, unless what differs lies between the blocks.
        content: a digest of what is in no file, or of small files.
        versions: {what made the content: its version}.
    """

    name: str
    records: int
    count: int = 0
    bytes: int = 0
    digest: str = ""
    files: Mapping[str, int] = dataclasses.field(default_factory=dict)
    samples: Mapping[str, str] = dataclasses.field(default_factory=dict)
    content: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "records": self.records} | {
            name: value for name, value in dataclasses.asdict(self).items() if value
        }

    def changed(self, then: Contents, now: str, before: str) -> str:
        """What differs from `then`, in words; '' where nothing does. now, before: words for the two."""
        found = []
        if self.records != then.records:
            found.append(f"{self.records:,} records {now}, {then.records:,} {before}")
        if (self.count, self.bytes, self.digest) != (then.count, then.bytes, then.digest):
            found.append(_first_file(self, then, now, before))
        both = (name for name in self.samples if name in then.samples)
        other = next((name for name in both if self.samples[name] != then.samples[name]), None)
        if other is not None and not found:
            found.append(f"{other} has the same size and another content {now} than {before}")
        if self.content != then.content:
            found.append(f"other content {now} than {before}{_versions(self, then, now, before)}")
        return "; ".join(found)


def of_files(name: str, records: int, paths: Sequence[str], sizes: Sequence[int] | None = None) -> Contents:
    """The contents of files, in this order.

    Raises:
        InputError: one of them cannot be looked at.
    """
    sizes = list(_sizes(paths) if sizes is None else sizes)
    names = [_readable(name) for name in files.names(paths, "")]
    digest = hashlib.sha256("".join(f"{n}\0{size}\n" for n, size in zip(names, sizes)).encode())
    found = {"count": len(paths), "bytes": sum(sizes), "digest": digest.hexdigest()[:16]}
    samples = dict(_samples(paths, names, sizes))
    return Contents(name, records, **found, files=_listed(names, sizes), samples=samples)


def of_content(name: str, records: int, content: Iterable[bytes], versions: Mapping[str, str]) -> Contents:
    """The contents of what is in no file, by a digest of these bytes."""
    digest = hashlib.sha256()
    for each in content:
        digest.update(each)
    return Contents(name, records, content=digest.hexdigest()[:16], versions=dict(versions))


def as_json(parts: Sequence[Contents]) -> list[dict[str, Any]]:
    """JSON that `from_json` reads."""
    return [part.as_json() for part in parts]


def from_json(parts: Iterable[Mapping[str, Any]]) -> list[Contents]:
    """What `as_json` was given; InputError for what it has not written."""
    try:
        return [Contents(**part) for part in parts]
    except TypeError as error:
        raise InputError(f"what was noted of the data cannot be read ({error})") from error


def difference(
    here: Sequence[Contents], there: Sequence[Contents], now: str = "now", before: str = "then"
) -> str:
    """The first part that differs, with its name; '' where none does."""
    for one, other in zip(here, there):
        if words := one.changed(other, now, before):
            return f"{one.name}: {words}"
    return "" if len(here) == len(there) else f"{len(here)} parts {now}, {len(there)} {before}"


def _readable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _sizes(paths: Sequence[str]) -> Iterable[int]:
    if len(paths) <= _AT_ONCE:
        return map(_size, paths)
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_size, paths))


def _size(path: str) -> int:
    try:
        return files.stamp(path)[0]
    except InputError:
        if os.path.islink(path) and not os.path.exists(path):  # a record is broken, not the source
            return 0
        raise


def _listed(names: Sequence[str], sizes: Sequence[int]) -> dict[str, int]:
    if len(names) <= LISTED:
        return dict(zip(names, sizes))
    folders: dict[str, int] = {}
    for name, size in zip(names, sizes):
        folder = f"{name.rpartition('/')[0]}/"
        folders[folder] = folders.get(folder, 0) + size
    return folders if len(folders) <= LISTED else {}


def _samples(paths: Sequence[str], names: Sequence[str], sizes: Sequence[int]) -> Iterable[tuple[str, str]]:
    """(name, digest of some blocks) of files on this machine, of 256 of them at most."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _BLOCKS)).round().astype(int)).tolist()
    for number in chosen:
        path, size = paths[number], sizes[number]
        if size and not files.is_remote(path):  # a pipe would wait for who writes
            blocks = min(max(_BLOCKS // len(chosen), 2), -(-size // _BLOCK))
            starts = np.linspace(0, max(size - _BLOCK, 0), blocks).astype(int).tolist()
            yield names[number], _sample(path, starts)


def _sample(path: str, starts: Sequence[int]) -> str:
    digest = hashlib.sha256()
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            for start in starts:
                digest.update(os.pread(file.fileno(), _BLOCK, start))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error})") from error
    return digest.hexdigest()[:16]


def _first_file(here: Contents, there: Contents, now: str, before: str) -> str:
    for name in itertools.chain(there.files, here.files):
        sizes = here.files.get(name), there.files.get(name)
        if here.files and there.files and sizes[0] != sizes[1]:
            one, other = ("none" if size is None else f"{size:,} bytes" for size in sizes)
            return f"{name}: {one} {now}, {other} {before}"
    if (here.count, here.bytes) == (there.count, there.bytes):
        return f"its {here.count:,} files have other names, sizes or another order {now} than {before}"
    return f"{here.count:,} files of {here.bytes:,} bytes {now}, {there.count:,} of {there.bytes:,} {before}"


def _versions(here: Contents, there: Contents, now: str, before: str) -> str:
    for name in sorted({*here.versions, *there.versions}):
        one, other = (each.versions.get(name, "none") for each in (here, there))
        if one != other:
            return f" ({name} {one} {now}, {other} {before})"
    return ""
