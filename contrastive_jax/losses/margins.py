"""Margins: a positive pair is scored as if it were further apart than it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


def with_margin(
    dots: Float[Array, "r c"], positive: Bool[Array, "r c"], margin: float, angular_margin: float
) -> Float[Array, "r c"]:
    """The cosines, with those of positives lowered.

    margin: taken off the cosine (CosFace, Wang et al. 2018, arXiv 1801.09414). angular_margin: added to
    the angle, in radians (ArcFace, Deng et al. 2019, arXiv 1801.07698): cos(theta + m). Where the angle
    would pass pi, the cosine goes on as a straight line, continuous and rising, so that a positive is
    never pushed away.
    """
    if angular_margin:
        dots = jnp.where(positive, _turned(dots, angular_margin), dots)
    return jnp.where(positive, dots - margin, dots) if margin else dots


def check_margins(margin: float, angular_margin: float) -> None:
    """ValueError for margins that no published loss has."""
    if not (margin >= 0 and math.isfinite(margin)):
        raise ValueError(f"margin={margin}: give 0 or more")
    if not 0 <= angular_margin < math.pi / 2:
        raise ValueError(f"angular_margin={angular_margin}: give radians in [0, pi/2)")


def _turned(cosine, angle: float):
    sine = jnp.sqrt(jnp.maximum(1 - cosine * cosine, 1e-6))  # a finite slope where the pair is one point
    turned = cosine * math.cos(angle) - sine * math.sin(angle)
    return jnp.where(cosine > -math.cos(angle), turned, cosine + math.cos(angle) - 1)
