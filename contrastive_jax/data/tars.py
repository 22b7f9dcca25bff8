"""What lies where in a tar file: its members, and the samples that they make up."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.files import is_remote, stamp, stream
from contrastive_jax.errors import InputError
from contrastive_jax.named_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]  # (start, length): fewer bytes where the file ends

BLOCK = 512
_HEADER_BYTES = 1 << 20  # of an extended one
_PADDING = 1 << 20  # behind the end of a tar, which most fill up to 10 KiB
_HEADERS = b"xgLK"  # extended headers: of the next member, of all, and GNU's long names
_FILES = b"0\x007"
_PAX = re.compile(rb"(\d{1,18}) ([^=\n]+)=")
_PAX_SIZE = re.compile(rb"\d{1,18}")
_SAMPLE = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")  # key up to the first dot of the last part
PICKLES = ("pyd", "pickle", "pkl", "pth", "pt", "ckpt", "joblib")


@dataclasses.dataclass(frozen=True)
class Member:
    """A regular file in a tar: its name, and where its content lies."""

    name: str
    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class Torn:
    """Where a tar goes on in no readable way, and the name of the member that it cuts, if known."""

    at: int
    name: str


def members(path: str, read: Read, length: int) -> Iterator[Member | Torn]:
    """The files of a tar (ustar, pax or GNU), and of those joined to it, in order; the last thing may be a
    `Torn`.

    Raises:
        InputError: it is no tar, or it holds a link, a device, or a name that leaves the folder.
    """
    at, long_name, long_size = 0, "", None
    while True:
        header = read(at, BLOCK)
        if len(header) == BLOCK and not header.strip(b"\0"):
            joined = _behind_the_end(read, at)
            if joined is None:
                return
            at, long_name, long_size = joined, "", None
            continue
        entry = _entry(header)
        if entry is None and at == 0:
            raise InputError(f"{path} is no tar file{_compressed(header)}")
        if entry is None:
            yield Torn(at, long_name)
            return
        kind, name, size = entry
        start = at + BLOCK
        if kind in _HEADERS:
            if start + size > length:
                yield Torn(at, long_name)
                return
            if size > _HEADER_BYTES:  # before so many bytes are asked for
                raise InputError(
                    f"{path}: the header at byte {at} says that it is {size:,} bytes long, and at most "
                    f"{_HEADER_BYTES:,} are read; write the tar anew"
                )
            content = read(start, size)
            if kind in b"LK":
                long_name = (
                    content.rstrip(b"\0").decode("utf-8", "surrogateescape") if kind == b"L" else long_name
                )
            elif kind == b"x":
                extended = _extended(content)
                long_name, long_size = extended.get("path", long_name), extended.get("size", long_size)
        else:
            name, size = long_name or name, size if long_size is None else int(long_size)
            _check(path, kind, name)
            if start + size > length:
                yield Torn(at, name)
                return
            if kind in _FILES and not name.endswith("/"):
                yield Member(name, start, size)
            long_name, long_size = "", None
        at = start + -(-size // BLOCK) * BLOCK


def _behind_the_end(read: Read, at: int) -> int | None:
    """Where another tar begins behind the end of one, as where two were joined; None where none does."""
    padding = read(at, _PADDING)
    start = (len(padding) - len(padding.lstrip(b"\0"))) // BLOCK * BLOCK
    header = padding[start : start + BLOCK]
    return at + start if header.strip(b"\0") and _entry(header) is not None else None


def _entry(header: bytes) -> tuple[bytes, str, int] | None:
    """(type, name, size) of a header; None where it is none."""
    if len(header) < BLOCK:
        return None
    try:
        total = int(header[148:156].split(b"\0")[0].strip() or b"x", 8)
        size = _number(header[124:136])
    except ValueError:
        return None
    if total != sum(header) - sum(header[148:156]) + 8 * 32 or size < 0:
        return None
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    if prefix and header[257:262] == b"ustar" and header[262:264] != b"  ":
        name = prefix + b"/" + name
    return header[156:157], name.decode("utf-8", "surrogateescape"), size


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU's way with 8 GiB and more
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.split(b"\0")[0].strip() or b"0", 8)


def _extended(content: bytes) -> dict[str, Any]:
    """``length key=value`` lines of a pax header; only the path and the size matter."""
    found, at = {}, 0
    while (match := _PAX.match(content, at)) and at + int(match[1]) > match.end():
        end = at + int(match[1])
        value = content[match.end() : end - 1]
        if match[2] == b"path":
            found["path"] = value.decode("utf-8", "surrogateescape")
        elif match[2] == b"size" and _PAX_SIZE.fullmatch(value):
            found["size"] = int(value)
        at = end
    return found


def _check(path: str, kind: bytes, name: str) -> None:
    if kind not in _FILES + b"5":
        what = {
            b"1": "a hard link",
            b"2": "a symbolic link",
            b"3": "a device",
            b"4": "a device",
            b"6": "a pipe",
        }
        raise InputError(
            f"{path}: member {name!r} is {what.get(kind, 'of no known type')}; only files are read, "
            "write the tar anew without it"
        )
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
        raise InputError(f"{path}: member {name!r} leaves the folder; write the tar anew without it")


def _compressed(header: bytes) -> str:
    packed = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
    found = next((name for start, name in packed.items() if header.startswith(start)), None)
    return f": it is compressed ({found}), and parts of it cannot be read; unpack it first" if found else ""


def samples(path: str) -> dict[str, Any]:
    """The index of a tar of samples: members of one key, which is their name up to the first dot.

    Returns:
        ``keys`` (uint8, UTF-8, one after another), ``key_ends`` [S], ``first`` [S + 1] (where a sample's
        members begin), ``starts``, ``sizes``, ``extensions`` [M] (numbers into the list ``names``), and
        counts of what is left out: ``pickles``, ``doubles``, ``nameless``, and ``torn``, a text. Of members
        of the same key and extension the first is kept.

    Raises:
        InputError: as `members` does, or the tar is torn before its first sample is whole.
    """
    length = stamp(path)[0]
    found: dict[str, dict[str, tuple[int, int]]] = {}
    left_out = {"pickles": 0, "doubles": 0, "nameless": 0, "torn": "", "double": ""}
    for member in _read_members(path, length):
        if isinstance(member, Torn):
            left_out["torn"] = _mend(found, member, length)
            break
        split = _SAMPLE.fullmatch(member.name.removeprefix("./"))
        if split is None:
            left_out["nameless"] += 1
            continue
        key, extension = split[1], split[2].lower()
        if extension.rsplit(".", 1)[-1] in PICKLES:
            left_out["pickles"] += 1
            continue
        sample = found.setdefault(key, {})
        if extension in sample:
            left_out["doubles"] += 1
            left_out["double"] = left_out["double"] or member.name
        sample.setdefault(extension, (member.start, member.size))
    if left_out["torn"] and not found:
        raise InputError(f"{path} is torn at its start: {left_out['torn']}; fetch it again")
    return _arrays(found) | left_out


def _read_members(path: str, length: int) -> Iterator[Member | Torn]:
    if is_remote(path):
        # One pass over the file: a request a member would take longer.
        with stream(path) as file:

            def read(start: int, count: int) -> bytes:
                file.seek(start)
                return file.read(count)

            yield from members(path, read, length)
    else:
        descriptor = open_regular(path)
        try:
            yield from members(path, lambda start, count: os.pread(descriptor, count, start), length)
        finally:
            os.close(descriptor)


def _mend(found: dict[str, dict], torn: Torn, length: int) -> str:
    """Drops the sample that a tear leaves incomplete, and says what is lost."""
    dropped = 0
    if found:
        last = next(reversed(found))
        split = _SAMPLE.fullmatch(torn.name.removeprefix("./"))
        cut = split is not None and split[1] in found
        if cut or set(found[last]) != set(next(iter(found.values()))):
            del found[split[1] if cut else last]
            dropped = 1
    return (
        f"it breaks off at byte {torn.at} of {length}; {len(found)} samples before are whole, "
        f"{dropped} is left out, and what followed is lost"
    )


def _arrays(found: dict[str, dict[str, tuple[int, int]]]) -> dict[str, Any]:
    names = sorted({extension for sample in found.values() for extension in sample})
    numbers = {name: number for number, name in enumerate(names)}
    encoded = [key.encode("utf-8", "surrogateescape") for key in found]
    placed = [(numbers[name], *place) for sample in found.values() for name, place in sample.items()]
    extensions, starts, sizes = zip(*placed) if placed else ((), (), ())
    return {
        "keys": np.frombuffer(b"".join(encoded), np.uint8),
        "key_ends": np.cumsum([len(key) for key in encoded], dtype=np.int64),
        "first": np.cumsum([0, *(len(sample) for sample in found.values())], dtype=np.int64),
        "starts": np.array(starts, np.int64),
        "sizes": np.array(sizes, np.int64),
        "extensions": np.array(extensions, np.min_scalar_type(len(names))),
        "names": names,
    }
