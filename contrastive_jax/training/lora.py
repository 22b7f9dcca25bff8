"""Low-rank adapters: a matrix W stays as it is, and W + alpha / rank A B is trained through A and B.

Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.training.structure import named_leaves, nearest_pattern, path_name

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key, PyTree

    Names = tuple[str | None, ...]


@dataclass(frozen=True)
class Adapter:
    """parameters: a pattern of the names of encoders' parameters; its matrices and tables are adapted.

    rank: columns of A and rows of B; alpha: A B counts alpha / rank.
    """

    parameters: str
    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"rank={self.rank}: give 1 or more")
        if self.alpha <= 0:
            raise InputError(f"alpha={self.alpha}: give a positive number")


@dataclass(frozen=True)
class Matrix:
    """One adapted parameter [layers, in..., out...], the axis `layers` only where blocks are stacked.

    axes: the logical names; inner: how many of them are the input's, `layers` not counted.
    """

    adapter: Adapter
    shape: tuple[int, ...]
    axes: Names
    inner: int

    @property
    def stacked(self) -> int:
        return int(self.axes[0] == "layers")

    def split(self, of: tuple) -> tuple[tuple, tuple, tuple]:
        """Something that has an entry an axis, cut into (layers, in, out)."""
        return (
            of[: self.stacked],
            of[self.stacked : self.stacked + self.inner],
            of[self.stacked + self.inner :],
        )


def inner_axes(axes: Names) -> int | None:
    """How many axes of a parameter are its input's; None where it is no matrix.

    Of two axes the first. Of more, as a projection to heads [embed, 3, heads, kv] or from them
    [heads, kv, embed] has: `embed`, the width of the tokens, is one side by itself and the rest the other.
    """
    axes = tuple(name for name in axes if name != "layers")
    if len(axes) == 2:
        return 1
    if len(axes) > 2 and "embed" in (axes[0], axes[-1]):
        return 1 if axes[0] == "embed" else len(axes) - 1
    return None


def adapted(adapters: Mapping[str, Adapter], axes: PyTree, shapes: PyTree) -> dict[str, Matrix]:
    """{parameter's name: what adapts it}.

    axes, shapes: the tree of all parameters with their logical axes, and with their shapes.
    Raises InputError for a pattern without a matrix of an encoder, one that two adapters claim, or a
    rank that is no lower than the matrix's own.
    """
    names, structures = named_leaves(axes, lambda x: isinstance(x, tuple)), named_leaves(shapes)
    known = [n for n in names if n.startswith("encoders/") and n.rsplit("/", 1)[-1] not in ("bias", "scale")]
    matrices = {n: inner for n in known if (inner := inner_axes(names[n]))}
    found: dict[str, Matrix] = {}
    owner: dict[str, str] = {}
    for key, adapter in adapters.items():
        matching = [n for n in matrices if fnmatchcase(n, adapter.parameters)]
        where = f"config.lora.{key}"
        if not matching:
            raise InputError(
                f"{where}.parameters={adapter.parameters}: no matrix of an encoder has such a name; "
                f"{nearest_pattern(adapter.parameters, matrices)}"
            )
        for name in matching:
            if name in owner:
                raise InputError(f"{where}.parameters: {name} is config.lora.{owner[name]}'s already")
            owner[name] = key
            matrix = Matrix(adapter, structures[name].shape, names[name], matrices[name])
            smaller = min(math.prod(side) for side in matrix.split(matrix.shape)[1:])
            if adapter.rank >= smaller:
                raise InputError(
                    f"{where}.rank={adapter.rank}: {name} has rank {smaller} itself; give less than that"
                )
            found[name] = matrix
    return found


def alphas(adapters: Mapping[str, Adapter], names: Iterable[str]) -> dict[str, float]:
    """The alpha of each of some matrices, by name."""
    return {n: a.alpha for n in names for a in adapters.values() if fnmatchcase(n, a.parameters)}


def init(key: Key[Array, ""], matrices: Mapping[str, Matrix]) -> dict[str, dict[str, Float[Array, "..."]]]:
    """{name: {a [layers, in..., rank], b [layers, rank, out...]}}: a normal of variance 1 / in, b zero."""
    made = {}
    for name, matrix in matrices.items():
        layers, into, out = matrix.split(matrix.shape)
        rank = matrix.adapter.rank
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))  # whatever other matrices there are
        a = jax.random.normal(own, (*layers, *into, rank)) * math.prod(into) ** -0.5
        made[name] = {"a": a, "b": jnp.zeros((*layers, rank, *out))}
    return made


def logical_axes(matrices: Mapping[str, Matrix]) -> dict[str, dict[str, Names]]:
    """The tree of `init` with logical axis names: those of the matrix, and None for the rank."""
    made = {}
    for name, matrix in matrices.items():
        layers, into, out = matrix.split(matrix.axes)
        made[name] = {"a": (*layers, *into, None), "b": (*layers, None, *out)}
    return made


def merged(params: PyTree, alphas: Mapping[str, float]) -> PyTree:
    """The parameters of the model itself: W + alpha / rank A B in place of each adapted W, and no "lora".

    alphas: by the matrix's name. Differentiable; exact in float32 on every platform.
    """
    adapters = params.get("lora", {})

    def one(path: Any, weight: Array) -> Array:
        name = path_name(path)
        return merge(weight, **adapters[name], alpha=alphas[name]) if name in adapters else weight

    base = {part: tree for part, tree in params.items() if part != "lora"}
    return jax.tree_util.tree_map_with_path(one, base) if adapters else base


def merge(
    weight: Float[Array, "..."], a: Float[Array, "... r"], b: Float[Array, "..."], alpha: float
) -> Float[Array, "..."]:
    """W + alpha / rank A B, of each layer where they are stacked."""

    def product(a, b):
        return jnp.tensordot(a, b, 1, precision=jax.lax.Precision.HIGHEST)

    stacked = a.ndim + b.ndim - 2 > weight.ndim
    return weight + (alpha / a.shape[-1]) * (jax.vmap(product) if stacked else product)(a, b)
