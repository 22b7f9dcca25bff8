"""Position tables of another picture size."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    import jax
    from jaxtyping import Float

    from contrastive_jax.interop.names import Table
    from contrastive_jax.interop.reading import Weights

_PATH = "transformer/position"
_SHARPNESS = -0.75  # of the cubic kernel, as OpenCV and PyTorch have it


def interpolated(
    positions: Float[np.ndarray, "T W"], height: int, width: int
) -> Float[np.ndarray, "height*width W"]:
    """A square grid of positions, by row then column, as a grid of another size.

    Bicubic (Keys 1981, a = -0.75), pixel centres aligned, edges repeated, nothing smoothed where it
    shrinks: what transformers does (`interpolate_pos_encoding`).
    """
    side = math.isqrt(len(positions))
    if side * side != len(positions) or not side:
        raise InputError(f"{len(positions)} positions are no square grid; they cannot be interpolated")
    grid = positions.reshape(side, side, -1).astype(np.float64)
    grid = np.einsum("hi,ijw->hjw", _weights(side, height), grid)
    grid = np.einsum("vj,hjw->hvw", _weights(side, width), grid)
    return grid.reshape(height * width, -1).astype(np.float32)


def resized(weights: Weights, table: Table, encoder: Any, example: jax.ShapeDtypeStruct) -> Weights:
    """The weights with the position table that a picture of this size needs."""
    name = next(row.theirs[0] for row in table.rows if row.ours == (_PATH,))
    if name not in weights or len(weights.shape(name)) < 2:
        return weights  # what is wrong with it, `names.load` says
    first = int(encoder.pooling == "cls")
    height, width = (side // encoder.patch for side in example.shape[1:3])
    *ones, length, features = weights.shape(name)
    if length - first == height * width:
        return weights
    old = weights[name].reshape(length, features)
    new = np.concatenate([old[:first], interpolated(old[first:], height, width)])
    return dataclasses.replace(weights, given={name: new.reshape(*ones, *new.shape)})


def _weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Row i: the share of each old place in the new place i."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre).astype(int) - 1
    matrix = np.zeros((new, old))
    for tap in range(4):
        share = _cubic(np.abs(centre - (first + tap)))
        np.add.at(matrix, (np.arange(new), np.clip(first + tap, 0, old - 1)), share)
    return matrix


def _cubic(x: np.ndarray) -> np.ndarray:
    a = _SHARPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
