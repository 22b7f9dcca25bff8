"""A picture's bytes, or its array, to colours that Pillow works on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from contrastive_jax.data.pictures import eight_bits, opened
from contrastive_jax.data.records import BrokenRecord

if TYPE_CHECKING:
    from jaxtyping import UInt8

MOST_PIXELS = 89_478_485  # Pillow warns of a decompression bomb beyond, and fails at twice as many
_ORIENTATION = 274  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
# Where a file keeps its orientation: to look for it in files that have none costs as much as resizing.
_CARRIERS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")


class Picture:
    """A picture whose header is read and whose pixels are not.

    Args:
        content: the bytes of a file that Pillow reads, or uint8 [H, W] or [H, W, 1, 3 or 4 colours].

    Attributes:
        size: width and height as it is to be seen, turned as the camera says.

    Raises:
        BrokenRecord: it is a decompression bomb, PostScript, or no such array.
        Exception: anything that Pillow raises.
    """

    def __init__(self, content: bytes | UInt8[np.ndarray, "..."]) -> None:
        self._image, self._turn = _opened(content), None
        width, height = self._image.size
        if width * height > MOST_PIXELS:
            raise BrokenRecord(f"the picture is too large ({width} x {height})")
        if self._image.format in ("TIFF", "MPO") or any(name in self._image.info for name in _CARRIERS):
            self._turn = _TURNS.get(self._image.getexif().get(_ORIENTATION, 1))
        self.size = (height, width) if self._sideways else (width, height)

    @property
    def _sideways(self) -> bool:
        return self._turn is not None and self._turn in (
            Image.Transpose.TRANSPOSE,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
            Image.Transpose.ROTATE_270,
        )

    def decode(self, share: float, background: tuple[int, ...], channels: int) -> Image.Image:
        """The pixels, in mode L (one channel) or RGB.

        Args:
            share: of its width and height that suffices. A JPEG is decoded at a half, a quarter or an
                eighth where that leaves so much.
            background: what is seen where the picture is transparent.
            channels: 1 or 3.
        """
        image, mode = self._image, "L" if channels == 1 else "RGB"
        if share < 1 or mode == "L":
            width, height = image.size
            image.draft(mode, (math.ceil(width * share), math.ceil(height * share)))
        image = _colours(image, mode, background)
        return image if self._turn is None else image.transpose(self._turn)


def _opened(content: Any) -> Image.Image:
    if not isinstance(content, np.ndarray):
        return opened(content)
    if content.dtype != np.uint8 or content.ndim not in (2, 3) or content.shape[2:] not in _ARRAYS:
        raise BrokenRecord(f"it is {content.dtype} {content.shape}, no uint8 picture")
    return Image.fromarray(content[:, :, 0] if content.shape[2:] == (1,) else content)


_ARRAYS = ((), (1,), (3,), (4,))


def _colours(image: Image.Image, mode: str, background: tuple[int, ...]) -> Image.Image:
    if image.mode == mode and "transparency" not in image.info:
        image.load()
        return image
    image = eight_bits(image)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)
    return image.convert(mode)
