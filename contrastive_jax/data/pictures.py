"""Encoded pictures looked at and made smaller before training, so that what is broken is known by then."""

from __future__ import annotations

import functools
import io
import logging
import warnings
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from contrastive_jax.data.records import BrokenRecord

_QUALITY = 95
# Others are no photographs, run programs, or unpack without a bound (FITS, before Pillow 12.2).
_FORMATS = (
    *(
        "JPEG",
        "PNG",
        "WEBP",
        "GIF",
        "BMP",
        "TIFF",
        "AVIF",
        "JPEG2000",
        "PPM",
        "TGA",
        "ICO",
        "PSD",
        "QOI",
        "DDS",
    ),
    *("DIB", "CUR", "ICNS", "PCX", "SGI", "SUN", "IM", "MSP", "XBM", "XPM", "EPS"),  # the last to be refused
)
PICTURES = frozenset(
    (
        *("apng", "avif", "avifs", "bmp", "dds", "dib", "gif", "icns", "ico", "j2c", "j2k", "jfif", "jp2"),
        *("jpe", "jpeg", "jpf", "jpg", "jpx", "pbm", "pcx", "pgm", "png", "pnm", "ppm", "psd", "qoi", "sgi"),
        *("tga", "tif", "tiff", "webp", "xbm", "xpm"),
    )
)
"""Endings of pictures: those that Pillow gives the formats read here, but for some that mean something else
as often, such as ``.rgb``."""

_DARK = 4096  # of 65536: less than 16 of 256
_log = logging.getLogger(__name__)
_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class Look(NamedTuple):
    """What a picture is: its size in pixels, its format (JPEG) and its mode (RGB)."""

    width: int
    height: int
    format: str
    mode: str


def look(content: bytes) -> Look:
    """What an encoded picture is; all of it is decoded, as cheaply as its format allows.

    Raises:
        BrokenRecord: it is no picture, torn or damaged, a PostScript program, or more pixels than Pillow
            holds safe (`Image.MAX_IMAGE_PIXELS`).
    """
    return _with_picture(content, _loaded_small)


def shrink(content: bytes, pixels: int) -> bytes:
    """The picture with its shorter side `pixels` long, in its own format (JPEG at quality 95) or as PNG of 8
    bits; the very bytes where it is no larger. What its EXIF says of its orientation is done, then left out.

    Raises:
        BrokenRecord: as `look`.
    """
    return _with_picture(content, lambda image: _shrunk(image, content, pixels))


def is_picture(field: str, value: Any) -> bool:
    """Whether a record's field is an encoded picture: bytes named `image`, or that begin like one."""
    if not isinstance(value, bytes):
        return False
    if field == "image":
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened(value).close()
    except Image.DecompressionBombError:
        return True
    except Exception:  # Pillow's decoders raise a dozen kinds, SyntaxError among them
        return False
    return True


def opened(content: bytes) -> Image.Image:
    """An encoded picture whose header is read and whose pixels are not.

    Raises:
        BrokenRecord: it is PostScript, which Pillow has Ghostscript execute.
        Exception: anything that Pillow raises.
    """
    image = Image.open(io.BytesIO(content), formats=_FORMATS)
    if image.format == "EPS":
        image.close()
        raise BrokenRecord("it is PostScript, a program, which is not executed; give a picture of pixels")
    return image


def eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits by their upper eight; any other as it is.

    Raises:
        BrokenRecord: its numbers are floats.
    """
    if image.mode == "F":
        raise BrokenRecord("the picture's numbers are floats; give 8 or 16 bits")
    if image.mode not in _SIXTEEN_BITS:
        return image
    numbers = np.clip(np.asarray(image), 0, 65535)
    if numbers.size and 0 < numbers.max() < _DARK:
        _tell_dark()
    # Pillow's own conversion cuts at 255.
    return Image.fromarray((numbers >> 8).astype(np.uint8))


@functools.cache
def _tell_dark() -> None:
    """One warning a process: 12 bits in numbers of 16 are common, and no file says so."""
    _log.warning(
        "a grey picture of 16 bits has no number over %d of 65535 and is seen nearly black: if it has fewer "
        "bits, stretch its numbers to 16",
        _DARK - 1,
    )


def as_array(value: bytes | np.ndarray, side: int) -> np.ndarray:
    """A picture as it is shown, uint8 [h, w, 3] or [h, w], at most `side` pixels a side: encoded, or an
    array whose one channel, if it has one, is ink on paper."""
    if isinstance(value, bytes):
        return _with_picture(value, lambda image: _thumbnail(image, side))
    array = np.asarray(value)
    array = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return 255 - array if array.ndim == 2 else array


def _with_picture(content: bytes, use):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bomb is refused below, with its size
            with opened(content) as image:
                if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                    raise BrokenRecord(f"the picture is too large ({image.width} x {image.height})")
                return use(image)
    except BrokenRecord:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "no format that is read"
        raise BrokenRecord(f"the picture cannot be decoded ({reason})") from error


def _loaded_small(image: Image.Image) -> Look:
    seen = Look(image.width, image.height, image.format or "?", image.mode)
    image.draft(None, (1, 1))  # JPEG: an eighth a side, yet all of the file is read
    image.load()
    eight_bits(image)  # raises for what training cannot take
    return seen


def _shrunk(image: Image.Image, content: bytes, pixels: int) -> bytes:
    kind, icc = image.format, image.info.get("icc_profile")
    if min(image.size) <= pixels:
        image.load()
        eight_bits(image)
        return content
    image.draft(None, (2 * pixels, 2 * pixels))
    upright = eight_bits(ImageOps.exif_transpose(image))
    factor = pixels / min(upright.size)
    size = tuple(max(round(side * factor), pixels) for side in upright.size)
    if upright.mode not in ("RGB", "RGBA", "L", "LA", "CMYK"):
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    smaller = upright.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if kind in ("JPEG", "MPO"):  # MPO: a JPEG with further ones behind it, as telephones write
        smaller.save(buffer, "JPEG", quality=_QUALITY, icc_profile=icc)
    elif kind == "WEBP":
        smaller.save(buffer, "WEBP", quality=_QUALITY, icc_profile=icc)
    else:
        smaller.convert("RGB" if smaller.mode == "CMYK" else smaller.mode).save(
            buffer, "PNG", icc_profile=icc
        )
    return buffer.getvalue()


def _thumbnail(image: Image.Image, side: int) -> np.ndarray:
    image.draft("RGB", (side, side))
    upright = eight_bits(ImageOps.exif_transpose(image))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    upright = upright.convert("RGB")
    upright.thumbnail((side, side))
    return np.asarray(upright)
