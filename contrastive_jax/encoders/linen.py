"""The pure boundary: Linen modules inside, functions of plain dictionaries outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Key, PyTree


class Encoded(NamedTuple):
    """What an encoder gives back.

    embedding: one vector an example, float32, not normalised.
    tokens: the hidden states after the last norm.
    mask: which tokens are real, as against padding.
    pool_mask: which of them a mean over tokens takes (a class token is not one).
    extras: whatever else this encoder has to say.
    """

    embedding: Float[Array, "B D"]
    tokens: Float[Array, "B T H"]
    mask: Bool[Array, "B T"]
    pool_mask: Bool[Array, "B T"]
    extras: dict[str, Array]


class Boundary(ABC):
    """Parameters in and out of a Linen module as plain nested dictionaries of float32 arrays.

    An `example` is an array, or a `jax.ShapeDtypeStruct`, of the input with its batch axis; only
    its shape without that axis, and its dtype, matter.
    """

    @abstractmethod
    def module(self, example: Any) -> nn.Module:
        """The Linen module; its call takes the input and the keys [B], or None instead of keys."""

    def init(self, key: Key[Array, ""], example: Any) -> PyTree[Float[Array, "..."]]:
        """New parameters."""
        module = self.module(example)

        @jax.jit
        def initialize(key: Array) -> Any:
            return nn.unbox(module.init(key, _one(example), None)["params"])

        return initialize(key)

    def logical_axes(self, example: Any) -> PyTree[tuple[str | None, ...]]:
        """The tree of `init` with a tuple of logical axis names in place of each array."""
        module = self.module(example)
        boxes = jax.eval_shape(lambda: module.init(jax.random.key(0), _one(example), None)["params"])
        return jax.tree.map(
            lambda box: box.names, boxes, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned)
        )


def _one(example: Any) -> Array:
    return jnp.zeros((1, *example.shape[1:]), example.dtype)


def named(initializer: Any, *names: str | None) -> Any:
    """The initializer of a parameter whose axes have these logical names."""
    return nn.with_logical_partitioning(initializer, names)


def kernel(*names: str | None, scale: float = 1.0) -> Any:
    """A matrix drawn from a truncated normal of variance `scale / fan_in`."""
    return named(nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal"), *names)


def zeros(*names: str | None) -> Any:
    return named(nn.initializers.zeros, *names)


def layer_norm(name: str, dtype: str, epsilon: float = 1e-6) -> nn.LayerNorm:
    """Layer normalisation with float32 statistics."""
    ones = named(nn.initializers.ones, "embed")
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, scale_init=ones, bias_init=zeros("embed"), name=name)
