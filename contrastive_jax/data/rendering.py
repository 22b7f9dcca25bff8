"""Pictures of every named character in the DejaVu faces that matplotlib ships."""

from __future__ import annotations

import unicodedata
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib import ft2font

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Int32, UInt8

SIDE = 32
FORMAT = 1  # raise it when the pictures change: caches of another format are then left alone
FACES = tuple(
    f"DejaVu{family}{style}"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
_EM = 24  # pixels to the em: the tallest common letters, with an accent, then just fit
_BASELINE = 25  # rows above the baseline

VERSIONS = (
    f"matplotlib{matplotlib.__version__}-freetype{ft2font.__freetype_version__}"
    f"-unicode{unicodedata.unidata_version}-format{FORMAT}"
)


def render() -> dict[str, np.ndarray]:
    """Renders every named character of every face to 32 x 32 grey levels, ink 255 on paper 0.

    All characters of a face share one size and one baseline, so that `o` and `O` differ, and each
    stands where its advance width puts it, that width being centred, so that the left and the right
    column of Braille dots differ. One that would stick out is moved, and one too large is made smaller.
    Combining marks, which are drawn on another character, and empty pictures are dropped. The same
    versions give the same bytes.

    Returns:
        ``pictures`` uint8 [P, 32, 32], the distinct ones; and for each of the N (character, face)
        pairs, by character and then by face, ``picture`` int32 [N] (a row of ``pictures``),
        ``character`` int32 [N] (code point) and ``face`` int32 [N] (a position in `FACES`).
    """
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pairs = [
        (codepoint, number, picture)
        for number, face in enumerate(FACES)
        for codepoint, picture in _face(fonts / f"{face}.ttf")
    ]
    pairs.sort(key=lambda pair: pair[:2])
    identifiers: dict[bytes, int] = {}
    picture = [identifiers.setdefault(drawn, len(identifiers)) for _, _, drawn in pairs]
    pictures: UInt8[np.ndarray, "P 32 32"] = np.frombuffer(b"".join(identifiers), np.uint8)
    columns: dict[str, Int32[np.ndarray, " N"]] = {
        "picture": np.array(picture, np.int32),
        "character": np.array([codepoint for codepoint, _, _ in pairs], np.int32),
        "face": np.array([number for _, number, _ in pairs], np.int32),
    }
    return {"pictures": pictures.reshape(-1, SIDE, SIDE)} | columns


def _face(path: Path) -> Iterator[tuple[int, bytes]]:
    font = ft2font.FT2Font(str(path))
    for codepoint in sorted(font.get_charmap()):
        letter = chr(codepoint)
        if unicodedata.name(letter, None) is None or unicodedata.category(letter) == "Mn":
            continue
        picture = _picture(font, codepoint)
        if picture.any():
            yield codepoint, picture.tobytes()


def _picture(font: ft2font.FT2Font, codepoint: int) -> np.ndarray:
    font.set_size(_EM, 72)
    glyph, (left, bottom, right, top) = _load(font, codepoint)
    largest = max(right - left, top - bottom)
    size = float(_EM)
    while largest > SIDE:
        # Rounding to whole pixels can leave one too many, hence the loop.
        size *= min(SIDE / largest, 0.98)
        font.set_size(size, 72)
        glyph, (left, bottom, right, top) = _load(font, codepoint)
        largest = max(right - left, top - bottom)
    advance = glyph.linearHoriAdvance / 65536
    column = min(max(round((SIDE - advance) / 2) + left, 0), SIDE - (right - left))
    row = min(max(_BASELINE - top, 0), SIDE - (top - bottom))
    return _draw(font, glyph, column - left, row)


def _load(font: ft2font.FT2Font, codepoint: int) -> tuple[ft2font.Glyph, tuple[int, int, int, int]]:
    """The outline, and the whole pixels it covers about its origin (left, bottom, right, top)."""
    glyph = font.load_char(codepoint, flags=ft2font.LoadFlags.NO_HINTING)
    left, bottom, right, top = (coordinate / 64 for coordinate in glyph.bbox)
    return glyph, (floor(left), floor(bottom), ceil(right), ceil(top))


def _draw(font: ft2font.FT2Font, glyph: ft2font.Glyph, x: int, y: int) -> np.ndarray:
    """Draws with the origin at column `x` and the top of the ink at row `y`."""
    if _PLAIN_ARRAYS:
        image = np.zeros((SIDE, SIDE), np.uint8)
        font.draw_glyph_to_bitmap(image, x, y, glyph)
        return image
    image = ft2font.FT2Image(SIDE, SIDE)
    font.draw_glyph_to_bitmap(image, x, y, glyph)
    return np.asarray(image)


# Matplotlib 3.10 draws only into its own image class, which 3.11 deprecates.
_PLAIN_ARRAYS = tuple(int(part) for part in matplotlib.__version__.split(".")[:2]) >= (3, 11)
