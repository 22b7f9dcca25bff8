"""Embeddings in fewer bytes: int8 with a range for each dimension, or one bit a dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

DTYPES = ("float32", "int8", "binary")


def width(dimensions: int, dtype: str) -> int:
    """Numbers that one embedding is stored as: a byte for every 8 dimensions where they are bits."""
    return -(-dimensions // 8) if dtype == "binary" else dimensions


def stored_dtype(dtype: str) -> np.dtype:
    """What those numbers are."""
    return np.dtype({"float32": np.float32, "int8": np.int8, "binary": np.uint8}[dtype])


class Range(NamedTuple):
    """What int8 codes mean in each dimension: code * scale + offset."""

    scale: Float[np.ndarray, " d"]
    offset: Float[np.ndarray, " d"]

    @classmethod
    def of(cls, least: Float[np.ndarray, " d"], most: Float[np.ndarray, " d"]) -> Range:
        """254 equal steps from the least of a set to its most."""
        steps = np.maximum((most - least) / np.float32(254), np.float32(1e-12))
        return cls(steps.astype(np.float32), ((least + most) / 2).astype(np.float32))


def quantize(
    z: Float[np.ndarray, "n d"], dtype: str, codes: Range | None = None
) -> Shaped[np.ndarray, "n w"]:
    """float32: z itself. int8: round((z - offset) / scale), -127 to 127. binary: the bits z > 0, eight to a
    byte.

    codes: of int8, the range of the whole set.
    """
    if dtype == "float32":
        return np.asarray(z, np.float32)
    if dtype == "int8":
        return np.clip(np.rint((z - codes.offset) / codes.scale), -127, 127).astype(np.int8)
    return np.packbits(z > 0, axis=1)


def restore(
    stored: Shaped[np.ndarray, "n w"], dtype: str, dimensions: int, codes: Range | None = None
) -> Float[np.ndarray, "n d"]:
    """What `quantize` keeps of z; of bits +-1 / sqrt(d)."""
    if dtype == "float32":
        return np.asarray(stored, np.float32)
    if dtype == "int8":
        return stored.astype(np.float32) * codes.scale + codes.offset
    return signs(np.unpackbits(stored, axis=1, count=dimensions))


def signs(positive: Shaped[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """+1 / sqrt(d) where true, -1 / sqrt(d) elsewhere: unit vectors, whose dot product is
    1 - 2 * (Hamming distance) / d."""
    d = positive.shape[1]
    return (2 * positive.astype(np.float32) - 1) / np.sqrt(np.float32(d))
