"""The bijections between PyTorch's arrays and ours that the tables of names use.

PyTorch keeps a linear layer as [out, in] and a convolution as [out, in, height, width]; ours are [in, out]
and [height * width * in, out], and attention's have axes for heads.
"""

from __future__ import annotations

import numpy as np

from contrastive_jax.interop.names import Transform


def _each(function):
    return lambda *arrays: tuple(function(array) for array in arrays)


TRANSPOSED = Transform(_each(np.transpose), _each(np.transpose))


def squeezed(axes: int) -> Transform:
    """Theirs have that many leading axes of size 1 more."""
    return Transform(
        _each(lambda x: x.reshape(x.shape[axes:])), _each(lambda x: x.reshape((1,) * axes + x.shape))
    )


def patches(side: int) -> Transform:
    """A convolution [W, C, side, side] as a matrix of patches [side * side * C, W]."""
    return Transform(
        _each(lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])),
        _each(lambda x: x.reshape(side, side, -1, x.shape[1]).transpose(3, 2, 0, 1)),
    )


def _heads_in(x: np.ndarray, heads: int) -> np.ndarray:
    """[H D, W] as [W, H, D], or a bias [H D] as [H, D]."""
    return x.T.reshape(*x.T.shape[:-1], heads, -1)


def _heads_back(x: np.ndarray) -> np.ndarray:
    """[W, H, D] as [H D, W], or [H, D] as [H D]."""
    return x.reshape(*x.shape[:-2], -1).T


def separate(heads: int) -> Transform:
    """Several layers [H D, W] of theirs as one [W, n, H, D] of ours; biases [H D] as [n, H, D]."""

    def load(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.stack([_heads_in(x, heads) for x in arrays], axis=-3),)

    def save(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(_heads_back(part) for part in np.moveaxis(x, -3, 0))

    return Transform(load, save)


def fused(heads: int) -> Transform:
    """One layer [n H D, W] of theirs as ours [W, n, H, D]; a bias [n H D] as [n, H, D]. n is 3."""

    def load(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return separate(heads).load(*np.split(x, 3))

    def save(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.concatenate(separate(heads).save(x)),)

    return Transform(load, save)


def query_apart(heads: int) -> Transform:
    """One layer [3 H D, W] of theirs as two of ours: queries [W, H, D], keys and values [W, 2, H, D]."""

    def load(x: np.ndarray) -> tuple[np.ndarray, ...]:
        query, *rest = np.split(x, 3)
        return _heads_in(query, heads), *separate(heads).load(*rest)

    def save(query: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.concatenate([_heads_back(query), *separate(heads).save(rest)]),)

    return Transform(load, save)


def heads_out(heads: int) -> Transform:
    """A layer [W, H D] of theirs as ours [H, D, W]."""
    return Transform(
        _each(lambda x: x.T.reshape(heads, -1, x.shape[0])), _each(lambda x: x.reshape(-1, x.shape[-1]).T)
    )


def _gated_load(x: np.ndarray) -> np.ndarray:
    return x.T.reshape(*x.T.shape[:-1], 2, -1)


GATED = Transform(_each(_gated_load), _each(lambda x: x.reshape(*x.shape[:-2], -1).T))
