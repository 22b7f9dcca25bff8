"""Changes of a picture's colours and sharpness at training, each drawn from `rng`.

All of them are Pillow's own operations, which the papers' reference code used too: written again in numpy
they would be slower, and different.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

if TYPE_CHECKING:
    import numpy as np

_TWO_ROUNDS = list(range(256)) * 2
_ENHANCE = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def jitter(image: Image.Image, strengths: tuple[float, ...], rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast, saturation and hue changed, in an order that is drawn too.

    A strength s draws a factor evenly from max(0, 1 - s) to 1 + s; that of the hue, up to 0.5, turns the
    colour circle by up to that share of a round, either way.

    Source: Chen et al. 2020, SimCLR, arXiv:2002.05709, appendix A.
    """
    draws = rng.random(len(strengths)).tolist()
    for kind in rng.permutation(len(strengths)).tolist():
        strength, draw = strengths[kind], draws[kind]
        if kind == 3:
            image = turned_hue(image, (2 * draw - 1) * strength) if strength else image
        elif strength:
            least = max(0.0, 1 - strength)
            image = _ENHANCE[kind](image).enhance(least + draw * (1 + strength - least))
    return image


def turned_hue(image: Image.Image, share: float) -> Image.Image:
    """All hues further round the colour circle by a share of it; a grey picture has none."""
    if image.mode == "L":
        return image
    hue, saturation, value = image.convert("HSV").split()
    by = round(share * 255) % 256
    hue = hue.point(_TWO_ROUNDS[by : by + 256])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def grey(image: Image.Image) -> Image.Image:
    """Luma of ITU-R 601-2, 0.299 R + 0.587 G + 0.114 B, in all channels."""
    return image.convert("L").convert(image.mode)


def blur(image: Image.Image, sigma: tuple[float, ...], rng: np.random.Generator) -> Image.Image:
    """Blurred by a Gaussian of `sigma` pixels, evenly drawn."""
    radius = sigma[0] + rng.random() * (sigma[1] - sigma[0])
    return image.filter(ImageFilter.GaussianBlur(radius))


def solarise(image: Image.Image) -> Image.Image:
    """Levels of 128 and more inverted (Grill et al. 2020, BYOL, arXiv:2006.07733)."""
    return ImageOps.solarize(image, 128)
