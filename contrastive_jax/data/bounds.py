"""How much one piece of data may take; what is larger is refused by name before memory is asked for it."""

from __future__ import annotations

from contrastive_jax.data.records import BrokenRecord

RECORD_BYTES = 1 << 30  # of one record with all its files
LINE_BYTES = 1 << 26  # of a line of JSON or CSV
UNPACKED_BYTES = 1 << 28  # of what a compressed file becomes; larger files may become more:
UNPACKED_TIMES = 100  # as many times their own size
INDEX_BYTES = 1 << 26  # of the index of a file; larger files may have larger ones:
INDEX_TIMES = 16  # as many times their own size


def check_record(size: int, most: int = RECORD_BYTES) -> None:
    """Raises BrokenRecord where a record says that it is larger than any is read."""
    if size > most:
        raise BrokenRecord(
            f"it is {size:,} bytes, and at most {most:,} are read; make it smaller, or leave it out"
        )


def most_unpacked(packed: int) -> int:
    """The bytes that a file of `packed` bytes may become."""
    return max(UNPACKED_BYTES, UNPACKED_TIMES * packed)
