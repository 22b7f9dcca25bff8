"""A view of pictures: decoded, cropped, resized, and changed at training in the ways that are asked for."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views import colouring, cropping
from contrastive_jax.data.views.declaring import Drawing, require, require_range, structure
from contrastive_jax.data.views.decoding import Picture
from contrastive_jax.data.views.randaugment import GREATEST, randaugment

if TYPE_CHECKING:
    import jax
    from jaxtyping import Float32, UInt8

_REDUCE = 3.0  # shrinking by more than so much begins with whole-number averages
_PROBABILITIES = ("flip", "jitter_probability", "grey", "blur", "solarise")


@dataclasses.dataclass(frozen=True)
class Photo(Drawing):
    """A picture in colours, cropped and resized (bicubic) to a square.

    At training, in this order and each only where it is asked for: crop, flip, RandAugment, colour
    jitter, grey, blur, solarise, cutout. At evaluation: the largest square, centred. A missing picture is
    one of the colour `background`.

    Args (and those of `Drawing`):
        field: the record's field: the bytes of a file that Pillow reads, or uint8 [H, W] or
            [H, W, 1, 3 or 4 colours].
        resolution: side of the output in pixels.
        channels: 3 for colours, 1 for grey.
        crop: at training the area of the crop, evenly drawn: as a share of the largest square that fits,
            or, with `ratio`, of the whole picture.
        ratio: width to height of the crop, drawn evenly in its logarithm, such as (0.75, 1.333); what is
            cut out is then squeezed to a square. Without it crops are squares.
        squeeze: at evaluation the whole picture is squeezed to a square, as SigLIP does.
        flip: probability of left and right changing sides.
        randaugment: (operations, magnitude from 0 to 10), such as (2, 9).
        jitter: strengths of (brightness, contrast, saturation, hue), such as (0.4, 0.4, 0.4, 0.1).
        jitter_probability: of the jitter.
        grey: probability of losing the colours.
        blur: probability of being blurred.
        sigma: of the blur, in pixels of the output, evenly drawn.
        solarise: probability of bright levels being inverted.
        cutout: side of a square that is laid on the picture, as a share of the picture's; its centre is
            anywhere in it (DeVries and Taylor 2017, arXiv:1708.04552). It has the colour of `mean`, or a
            middle grey.
        background: the colour behind a transparent picture.
        mean: with `std`, of each channel, in levels from 0 to 1: the output is (picture / 255 - mean) / std
            in float32, and without them uint8, for the encoder to scale.
        std: see `mean`.
    """

    field: str = "image"
    resolution: int = 224
    channels: int = 3
    crop: tuple[float, ...] = (0.9, 1.0)
    ratio: tuple[float, ...] = ()
    squeeze: bool = False
    flip: float = 0.0
    randaugment: tuple[float, ...] = ()
    jitter: tuple[float, ...] = ()
    jitter_probability: float = 0.8
    grey: float = 0.0
    blur: float = 0.0
    sigma: tuple[float, ...] = (0.1, 2.0)
    solarise: float = 0.0
    cutout: float = 0.0
    background: tuple[int, ...] = (255, 255, 255)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.resolution > 0, "photo", "resolution", self.resolution, "positive")
        require(self.channels in (1, 3), "photo", "channels", self.channels, "1 or 3")
        require_range("photo", "crop", self.crop, 0, 1)
        require_range("photo", "ratio", self.ratio or (1, 1), 0, math.inf)
        require_range("photo", "sigma", self.sigma, 0, math.inf)
        for key in _PROBABILITIES:
            require(0 <= getattr(self, key) <= 1, "photo", key, getattr(self, key), "in [0, 1]")
        require(0 <= self.cutout < 1, "photo", "cutout", self.cutout, "in [0, 1)")
        self._check_tuples()

    def _check_tuples(self) -> None:
        jitter, augment, levels = self.jitter, self.randaugment, self.background
        good = not jitter or (len(jitter) == 4 and min(jitter) >= 0 and jitter[3] <= 0.5)
        require(good, "photo", "jitter", jitter, "four strengths, the last (hue) up to 0.5")
        good = not augment or (
            len(augment) == 2 and augment[0] == int(augment[0]) > 0 and 0 <= augment[1] <= GREATEST
        )
        require(good, "photo", "randaugment", augment, f"(operations, magnitude from 0 to {GREATEST})")
        good = len(levels) == 3 and all(0 <= level <= 255 for level in levels)
        require(good, "photo", "background", levels, "three levels from 0 to 255")
        good = len(self.mean) == len(self.std) and len(self.std) in (0, self.channels)
        require(good, "photo", "mean", self.mean, f"as many numbers as std, {self.channels} or none")
        require(all(s > 0 for s in self.std), "photo", "std", self.std, "positive")

    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example: [resolution, resolution, channels], uint8, or float32 with `std`."""
        shape = (self.resolution, self.resolution, self.channels)
        return structure(shape, np.float32 if self.std else np.uint8)

    def blank(
        self,
    ) -> UInt8[np.ndarray, "resolution resolution c"] | Float32[np.ndarray, "resolution resolution c"]:
        """A picture of the background's colour."""
        size = (self.resolution, self.resolution)
        image = Image.new("RGB", size, tuple(self.background))
        return self._scaled(image if self.channels == 3 else image.convert("L"))

    def example(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> UInt8[np.ndarray, "resolution resolution c"] | Float32[np.ndarray, "resolution resolution c"]:
        """The picture.

        Raises:
            BrokenRecord: it cannot be decoded, or it is a decompression bomb.
        """
        content, changes = record[self.field], rng
        if train and self.together:
            # Another picture's crop may take more numbers; what follows it is to be the same.
            changes = np.random.Generator(np.random.Philox(int(rng.integers(2**63))))
        try:
            image = self._cropped(Picture(content), rng, train)
        except BrokenRecord:
            raise
        except Exception as error:  # Pillow's decoders raise a dozen kinds, SyntaxError among them
            raise BrokenRecord(f"the picture cannot be decoded ({error})") from error
        if train:
            image = self._changed(image, changes)
        return self._scaled(image)

    def _scaled(self, image: Image.Image) -> np.ndarray:
        array = np.asarray(image).reshape(self.resolution, self.resolution, self.channels)
        if not self.std:
            return array
        std = np.asarray(self.std, np.float32)
        return array * (1 / (255 * std)) - np.asarray(self.mean, np.float32) / std

    def _cropped(self, picture: Picture, rng: np.random.Generator, train: bool) -> Image.Image:
        if train:
            drawn = cropping.inception if self.ratio else cropping.square
            box = drawn(picture.size, *filter(None, (self.crop, self.ratio)), rng)
        else:
            box = (0.0, 0.0, *picture.size) if self.squeeze else cropping.middle(picture.size)
        share = max(self.resolution / (box[2] - box[0]), self.resolution / (box[3] - box[1]))
        image = picture.decode(share, self.background, self.channels)
        across, down = image.width / picture.size[0], image.height / picture.size[1]
        box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        square = (self.resolution, self.resolution)
        return image.resize(square, Image.Resampling.BICUBIC, box=box, reducing_gap=_REDUCE)

    def _changed(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        flip, jitter, grey, blur, solarise = rng.random(5).tolist()
        if flip < self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.randaugment:
            image = randaugment(image, int(self.randaugment[0]), self.randaugment[1], rng)
        if self.jitter and jitter < self.jitter_probability:
            image = colouring.jitter(image, self.jitter, rng)
        if grey < self.grey:
            image = colouring.grey(image)
        if blur < self.blur:
            image = colouring.blur(image, self.sigma, rng)
        if solarise < self.solarise:
            image = colouring.solarise(image)
        return self._cut_out(image, rng) if self.cutout else image

    def _cut_out(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        half = round(self.cutout * self.resolution) / 2
        across, down = (int(draw * self.resolution) + 0.5 for draw in rng.random(2).tolist())
        box = tuple(math.floor(edge) for edge in (across - half, down - half, across + half, down + half))
        levels = [round(255 * level) for level in self.mean] or [128] * self.channels
        image = image.copy()  # a picture that was not resized shares its pixels with the record
        image.paste(tuple(levels) if self.channels == 3 else levels[0], box)
        return image
