"""Which part of a picture is looked at: boxes (left, top, right, bottom) in pixels, fractions allowed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Size = tuple[int, int]  # width, height
    Box = tuple[float, float, float, float]

_TRIES = 10


def middle(size: Size) -> Box:
    """The largest square, centred."""
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    return left, top, left + side, top + side


def square(size: Size, area: tuple[float, float], rng: np.random.Generator) -> Box:
    """A square whose area is a share of the largest square's, evenly drawn, as its place is."""
    share, across, down = rng.random(3).tolist()
    side = min(size) * math.sqrt(area[0] + share * (area[1] - area[0]))
    left, top = across * (size[0] - side), down * (size[1] - side)
    return left, top, left + side, top + side


def inception(
    size: Size, area: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """A box whose area is a share of the whole picture's, evenly drawn, and whose width to height is drawn
    evenly in its logarithm; its place is evenly drawn.

    One that does not fit is drawn again, ten times; then it is the largest of the nearest ratio, centred.

    Source: Szegedy et al. 2015, Going Deeper with Convolutions, arXiv:1409.4842, section 6; the ranges
    (0.08, 1) and (3/4, 4/3) are SimCLR's too (Chen et al. 2020, arXiv:2002.05709).
    """
    (width, height), (narrow, wide) = size, (math.log(ratio[0]), math.log(ratio[1]))
    for _ in range(_TRIES):
        share, shape, across, down = rng.random(4).tolist()
        share = area[0] + share * (area[1] - area[0])
        aspect = math.exp(narrow + shape * (wide - narrow))
        w, h = math.sqrt(share * width * height * aspect), math.sqrt(share * width * height / aspect)
        if w <= width and h <= height:
            left, top = across * (width - w), down * (height - h)
            return left, top, left + w, top + h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, height * aspect), min(height, width / aspect)
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2
