"""A view of small grey pictures."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views.declaring import Drawing, require, structure

if TYPE_CHECKING:
    import jax
    from jaxtyping import UInt8


@dataclasses.dataclass(frozen=True)
class Glyph(Drawing):
    """A small grey picture, moved about at training; ink 255 on paper 0. A missing one is paper.

    Args (and those of `Drawing`):
        field: the record's field, uint8 [H, W] or [H, W, 1].
        size: side of the output in pixels; a picture of another size is resized.
        shift: moved by a whole number of pixels up to this, each way and evenly drawn.
        scale: made larger or smaller by up to this share (0.1: from 1 / 1.1 to 1.1).
        rotation: turned by up to this many degrees.
        erase: a square of paper of up to this many pixels a side is laid on it.
    """

    field: str = "image"
    size: int = 32
    shift: int = 3
    scale: float = 0.0
    rotation: float = 0.0
    erase: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.size > 0, "glyph", "size", self.size, "positive")
        for key in ("shift", "erase"):
            value = getattr(self, key)
            require(0 <= value < self.size, "glyph", key, value, f"in 0..size-1 ({self.size - 1})")
        for key in ("scale", "rotation"):
            require(getattr(self, key) >= 0, "glyph", key, getattr(self, key), "0 or more")

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example: uint8 [size, size, 1]."""
        return structure((self.size, self.size, 1), np.uint8)

    def blank(self) -> UInt8[np.ndarray, "size size 1"]:
        """Paper."""
        return np.zeros((self.size, self.size, 1), np.uint8)

    def example(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> UInt8[np.ndarray, "size size 1"]:
        """The picture; with `train` False untouched but for its size.

        Raises:
            BrokenRecord: it is no array of that kind.
        """
        image = record[self.field]
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] not in ((), (1,)):
            raise BrokenRecord(f"{self.field!r} is no grey picture, uint8 [H, W]")
        image = image.reshape(image.shape[:2])
        if image.shape != (self.size, self.size):
            image = np.asarray(
                Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BICUBIC)
            )
        if train:
            down, right, grow, turn, side, top, left = rng.random(7).tolist()
            if self.scale or self.rotation:
                image = self._affine(image, 2 * grow - 1, 2 * turn - 1)
            if self.shift:
                spread = 2 * self.shift + 1
                image = _moved(image, int(down * spread) - self.shift, int(right * spread) - self.shift)
            if self.erase:
                side = int(side * (self.erase + 1))
                row, column = int(top * (self.size - side + 1)), int(left * (self.size - side + 1))
                image = image.copy()
                image[row : row + side, column : column + side] = 0
        return image[:, :, None]

    def _affine(self, image: np.ndarray, grow: float, turn: float) -> np.ndarray:
        factor, angle = (1 + self.scale) ** grow, math.radians(self.rotation * turn)
        cosine, sine = math.cos(angle) / factor, math.sin(angle) / factor
        centre = self.size / 2
        matrix = (
            *(cosine, sine, centre * (1 - cosine - sine)),
            *(-sine, cosine, centre * (1 + sine - cosine)),
        )
        moved = Image.fromarray(image).transform(
            image.shape, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        return np.asarray(moved)


def _moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    height, width = image.shape
    moved = np.zeros_like(image)
    moved[max(down, 0) : height + down, max(right, 0) : width + right] = image[
        max(-down, 0) : height - down, max(-right, 0) : width - right
    ]
    return moved
