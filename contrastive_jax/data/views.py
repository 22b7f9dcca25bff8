"""What a model sees of a record: arrays of a declared shape."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    import jax
    from jaxtyping import Int32, UInt8

    from contrastive_jax.data.tokenizers import Tokenizer

_MAX_PIXELS = 89_478_485  # Pillow warns of a decompression bomb beyond, and fails at twice as many


def _structure(shape: tuple[int, ...], dtype: type) -> jax.ShapeDtypeStruct:
    import jax

    return jax.ShapeDtypeStruct(shape, dtype)


def _require(good: bool, view: str, key: str, value: object, must: str) -> None:
    if not good:
        raise InputError(f"view {view!r}: {key}={value!r} must be {must}")


@dataclasses.dataclass(frozen=True)
class Glyph:
    """A small grey picture, moved about at training; ink 255 on paper 0.

    Args:
        field: the record's field, uint8 [H, W].
        member: which of the records that the sampler drew for a row.
        size: side of the output in pixels; a picture of another size is resized.
        shift: moved by a whole number of pixels up to this, each way and evenly drawn.
        scale: made larger or smaller by up to this share (0.1: from 1 / 1.1 to 1.1).
        rotation: turned by up to this many degrees.
        erase: a square of paper of up to this many pixels a side is laid on it.
    """

    field: str = "image"
    member: int = 0
    size: int = 32
    shift: int = 3
    scale: float = 0.0
    rotation: float = 0.0
    erase: int = 0

    def __post_init__(self) -> None:
        _require(self.size > 0, "glyph", "size", self.size, "positive")
        for key in ("shift", "erase"):
            value = getattr(self, key)
            _require(0 <= value < self.size, "glyph", key, value, f"in 0..size-1 ({self.size - 1})")
        for key in ("scale", "rotation", "member"):
            _require(getattr(self, key) >= 0, "glyph", key, getattr(self, key), "0 or more")

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example: uint8 [size, size, 1]."""
        return _structure((self.size, self.size, 1), np.uint8)

    def __call__(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> UInt8[np.ndarray, "size size 1"]:
        """The picture; with `train` False untouched but for its size."""
        image = record[self.field]
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


@dataclasses.dataclass(frozen=True)
class Photo:
    """An encoded picture, decoded to colours, cropped to a square and resized (bicubic).

    Args:
        field: the record's field, the bytes of a file that Pillow reads.
        member: which of the records that the sampler drew for a row.
        resolution: side of the output in pixels.
        crop: at training the square's area, evenly drawn, as a share of the largest square that fits;
            its place is evenly drawn too. At evaluation it is the largest square, centred.
    """

    field: str = "image"
    member: int = 0
    resolution: int = 224
    crop: tuple[float, float] = (0.9, 1.0)

    def __post_init__(self) -> None:
        _require(self.resolution > 0, "photo", "resolution", self.resolution, "positive")
        _require(self.member >= 0, "photo", "member", self.member, "0 or more")
        ordered = len(self.crop) == 2 and 0 < self.crop[0] <= self.crop[1] <= 1
        _require(ordered, "photo", "crop", self.crop, "two ascending shares in (0, 1]")

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example: uint8 [resolution, resolution, 3]."""
        return _structure((self.resolution, self.resolution, 3), np.uint8)

    def __call__(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> UInt8[np.ndarray, "resolution resolution 3"]:
        """The picture.

        Raises:
            BrokenRecord: it cannot be decoded, or it is a decompression bomb.
        """
        try:
            image = self._decode(record[self.field])
        except BrokenRecord:
            raise
        except Exception as error:  # Pillow's decoders raise a dozen kinds, SyntaxError among them
            raise BrokenRecord(f"the picture cannot be decoded ({error})") from error
        largest = min(image.size)
        side, left, top = float(largest), (image.width - largest) / 2, (image.height - largest) / 2
        if train:
            area, across, down = rng.random(3).tolist()
            side *= math.sqrt(self.crop[0] + area * (self.crop[1] - self.crop[0]))
            left, top = across * (image.width - side), down * (image.height - side)
        square = (self.resolution, self.resolution)
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize(square, Image.Resampling.BICUBIC, box=box))

    def _decode(self, content: bytes) -> Image.Image:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > _MAX_PIXELS:
            raise BrokenRecord(f"the picture is too large ({image.width} x {image.height})")
        # JPEG decodes at a half, a quarter or an eighth, where that leaves the smallest crop enough.
        enough = math.ceil(self.resolution / math.sqrt(self.crop[0]))
        image.draft("RGB", (enough, enough))
        return ImageOps.exif_transpose(image).convert("RGB")


@dataclasses.dataclass(frozen=True)
class Text:
    """A text's tokens.

    Args:
        field: the record's field, a string.
        member: which of the records that the sampler drew for a row.
        length: tokens, begin and end included; longer texts are cut, shorter ones padded with 0.
        word_dropout: at training each word is left out with this probability, but never all of them
            (Iyyer et al. 2015, Deep Unordered Composition Rivals Syntactic Methods).
    """

    field: str = "text"
    member: int = 0
    length: int = 32
    word_dropout: float = 0.0
    _tokenizer = None

    def __post_init__(self) -> None:
        _require(self.length >= 3, "text", "length", self.length, "3 or more")
        _require(self.member >= 0, "text", "member", self.member, "0 or more")
        _require(0 <= self.word_dropout < 1, "text", "word_dropout", self.word_dropout, "in [0, 1)")

    def bind(self, tokenizer: Tokenizer) -> Text:
        """The same view with the tokenizer that it shall use, which is no part of its config."""
        bound = dataclasses.replace(self)
        object.__setattr__(bound, "_tokenizer", tokenizer)
        return bound

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example: int32 [length]."""
        return _structure((self.length,), np.int32)

    def __call__(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> Int32[np.ndarray, " length"]:
        """The tokens; with `train` False those of the whole text.

        Raises:
            ValueError: no tokenizer was bound.
        """
        if self._tokenizer is None:
            raise ValueError("a text view needs a tokenizer: use view.bind(tokenizer)")
        text = record[self.field]
        if train and self.word_dropout:
            words = text.split()
            kept = [word for word, u in zip(words, rng.random(len(words))) if u >= self.word_dropout]
            text = " ".join(kept or words)
        return self._tokenizer.encode(text, self.length)


KINDS = {"glyph": Glyph, "photo": Photo, "text": Text}
