"""How much one piece of data may take; what is larger is refused by name before memory is asked for it."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any

from contrastive_jax.data.records import BrokenRecord

if TYPE_CHECKING:
    from pathlib import Path

RECORD_BYTES = 1 << 30  # of one record with all its files
LINE_BYTES = 1 << 26  # of a line of JSON or CSV
UNPACKED_BYTES = 1 << 28  # of what a compressed file becomes; larger files may become more:
UNPACKED_TIMES = 100  # as many times their own size
INDEX_BYTES = 1 << 26  # of the index of a file; larger files may have larger ones:
INDEX_TIMES = 16  # as many times their own size
JSON_BYTES = 1 << 26  # of a JSON file


def check_record(size: int, most: int = RECORD_BYTES) -> None:
    """Raises BrokenRecord where a record says that it is larger than any is read."""
    if size > most:
        raise BrokenRecord(
            f"it is {size:,} bytes, and at most {most:,} are read; make it smaller, or leave it out"
        )


def most_unpacked(packed: int) -> int:
    """The bytes that a file of `packed` bytes may become."""
    return max(UNPACKED_BYTES, UNPACKED_TIMES * packed)


def read_bounded(path: str | Path, most: int) -> bytes:
    """A whole local file; OSError where it is larger than `most`, or is a pipe or a device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if status.st_size > most:
            what = f"it is {status.st_size:,} bytes, and at most {most:,} are read"
            raise OSError(errno.EFBIG, what, str(path))
        return file.read(status.st_size)


def read_json(path: str | Path, most: int = JSON_BYTES) -> Any:
    """What a local JSON file holds; raises as `read_bounded`, or ValueError: none, or nested too deeply."""
    try:
        return json.loads(read_bounded(path, most))
    except RecursionError:
        raise ValueError("its objects are nested too deeply") from None
