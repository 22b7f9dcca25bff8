"""Compressed files as what they hold, in pieces and up to a bound."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import secrets
import zlib
from typing import TYPE_CHECKING, BinaryIO

from contrastive_jax.data import cache, files
from contrastive_jax.data.bounds import most_unpacked
from contrastive_jax.data.indexes import warn
from contrastive_jax.errors import InputError, kind_of

if TYPE_CHECKING:
    from pathlib import Path

WORTH_KEEPING = 1 << 24  # bytes of a file of which a copy or an index is kept rather than made again


def unpack(path: str) -> bytes | str:
    """What a gzip file unpacks to, or the path of that in the cache folder where it is large.

    Raises:
        InputError: it cannot be unpacked, becomes more than `bounds.most_unpacked`, or cannot be kept.
        CommandError: it cannot be kept now, as on a full disk.
    """
    size, changes = files.stamp(path)
    whole = path if files.is_remote(path) else os.path.abspath(path)
    mark = hashlib.sha256(f"{whole} {size} {changes}".encode("utf-8", "surrogateescape")).hexdigest()[:24]
    copy = cache.folder() / "unpacked" / mark / path.rsplit("/", 1)[-1].removesuffix(".gz")
    if copy.exists():
        return str(copy)
    with files.stream(path) as packed:
        try:
            with gzip.open(packed) as file:
                first = file.read(WORTH_KEEPING + 1)
                return first if len(first) <= WORTH_KEEPING else _kept(path, copy, first, file, size)
        except (OSError, EOFError, zlib.error) as error:
            if getattr(error, "errno", None) is None:  # of the file itself
                raise InputError(f"{path} cannot be unpacked ({error})") from error
            raise kind_of(error)(
                f"{path} cannot be unpacked to {copy} ({error.strerror}): make room there, or name another "
                "folder in CONTRASTIVE_JAX_CACHE"
            ) from error


def _kept(path: str, copy: Path, content: bytes, rest: BinaryIO, size: int) -> str:
    """Writes what a file of `size` bytes unpacks to as `copy`, at once or not at all."""
    warn(f"unpacking {path} into {copy.parent}")
    temporary = copy.with_name(f"{copy.name}.{os.getpid()}.{secrets.token_hex(4)}")
    written, most = 0, most_unpacked(size)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            while content:
                written += len(content)
                if written > most:
                    raise InputError(
                        f"{path} ({size:,} bytes) unpacks to more than {most:,} bytes; if it is no bomb, "
                        "unpack it yourself and name what comes of it"
                    )
                file.write(content)
                content = rest.read(WORTH_KEEPING)
        os.replace(temporary, copy)
    finally:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds the copy
            copy.parent.rmdir()
    return str(copy)
