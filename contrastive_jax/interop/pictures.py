"""Image encoders rewritten as what other libraries have, computing the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from contrastive_jax.encoders import VisionTransformer
from contrastive_jax.errors import InputError
from contrastive_jax.interop import names
from contrastive_jax.interop.model import Model, Tower, Wants

KERNEL, BIAS, POSITION = "patches/kernel", "patches/bias", "transformer/position"
GREY_TO_COLOURS = 3


def checked(tower: Tower, wants: Wants) -> Tower:
    """The tower, if it is a vision transformer of square pictures in one or three colours.

    One colour becomes three, with a third of the weight each: a grey picture whose three colours are
    alike gives what it gave before.
    """
    where = f"encoders.{tower.name}"
    if type(tower.encoder) is not VisionTransformer:
        raise InputError(f"{wants.format} cannot hold config.{where}: it wants kind='vision_transformer'")
    height, width, channels = tower.view.shape
    if height != width or channels not in (1, 3):
        raise InputError(
            f"{wants.format} cannot hold pictures of {height} x {width} x {channels}: it wants squares, "
            "grey or in three colours"
        )
    if channels == 1:
        flat = names.flatten(tower.params)
        kernel = np.asarray(flat[KERNEL]) / GREY_TO_COLOURS
        return changed(tower, {**flat, KERNEL: np.repeat(kernel, GREY_TO_COLOURS, axis=0)})
    return tower


def with_bias(tower: Tower) -> Tower:
    """The matrix of the patches with a bias: 0 where it has none."""
    flat = names.flatten(tower.params)
    return changed(tower, {BIAS: np.zeros(flat[KERNEL].shape[1], np.float32), **flat})


def without_bias(tower: Tower) -> Tower:
    """The matrix of the patches without a bias: the positions of the patches have it."""
    flat = names.flatten(tower.params)
    if BIAS not in flat:
        return tower
    bias, position = np.asarray(flat.pop(BIAS)), np.array(flat[POSITION])
    position[int(tower.encoder.pooling == "cls") :] += bias
    return changed(tower, {**flat, POSITION: position})


def changed(tower: Tower, flat: dict[str, Any]) -> Tower:
    return dataclasses.replace(tower, params=names.unflatten(flat))


def pixels(model: Model, tower: Tower) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation, from 0 to 1, of the three colours that the model's pictures are normalised by."""
    mean = tower.encoder.mean if model.mean is None else model.mean
    std = tower.encoder.std if model.std is None else model.std
    return tuple(np.resize(mean, 3).tolist()), tuple(np.resize(std, 3).tolist())
