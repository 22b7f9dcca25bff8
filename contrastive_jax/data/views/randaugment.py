"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few operations of one strength, evenly drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Operation = Callable[[Image.Image, float], Image.Image]

GREATEST = 10  # the magnitude at which every operation has its full strength


def randaugment(image: Image.Image, count: int, magnitude: float, rng: np.random.Generator) -> Image.Image:
    """`count` operations, one after another, each drawn from `OPERATIONS` with a sign that is drawn too.

    Args:
        image: mode L or RGB.
        count: N of the paper.
        magnitude: M of the paper, 0 to 10.
    """
    names = list(OPERATIONS)
    for kind, sign in rng.random((count, 2)).tolist():
        strength = magnitude / GREATEST * (1 if sign < 0.5 else -1)
        image = OPERATIONS[names[int(kind * len(names))]](image, strength)
    return image


def _enhanced(by: type) -> Operation:
    return lambda image, strength: by(image).enhance(1 + 0.9 * strength)


def _moved(matrix: Callable[[Image.Image, float], tuple[float, ...]]) -> Operation:
    def move(image: Image.Image, strength: float) -> Image.Image:
        fill = 128 if image.mode == "L" else (128, 128, 128)
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            matrix(image, strength),
            Image.Resampling.BILINEAR,
            fillcolor=fill,
        )

    return move


def _rotated(image: Image.Image, strength: float) -> Image.Image:
    fill = 128 if image.mode == "L" else (128, 128, 128)
    return image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=fill)


# The ranges are AutoAugment's (Cubuk et al. 2019, arXiv:1805.09501, table 6), whose pictures had 331 pixels.
OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, strength: image,
    "autocontrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "rotate": _rotated,
    "solarize": lambda image, strength: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
    "color": _enhanced(ImageEnhance.Color),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear_x": _moved(lambda image, s: (1, 0.3 * s, 0, 0, 1, 0)),
    "shear_y": _moved(lambda image, s: (1, 0, 0, 0.3 * s, 1, 0)),
    "translate_x": _moved(lambda image, s: (1, 0, 150 / 331 * s * image.width, 0, 1, 0)),
    "translate_y": _moved(lambda image, s: (1, 0, 0, 0, 1, 150 / 331 * s * image.height)),
}
