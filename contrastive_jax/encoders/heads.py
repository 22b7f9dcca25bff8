"""Heads: stages on the embeddings of the whole batch [B, D]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.linen import Boundary, kernel, zeros
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


@dataclass(frozen=True)
class Head(Boundary):
    """What all heads share: embeddings [B, D] in, (embeddings [B, features], statistics) out.

    Args:
        features: size of the embeddings that come out.
        bias: whether the last matrix has a bias.
    """

    features: int = 512
    bias: bool = False

    def __post_init__(self) -> None:
        _positive("features", self.features)

    def apply(
        self, params: Any, x: Float[Array, "B D"], *, train: bool, key: Key[Array, "B"] | None
    ) -> tuple[Float[Array, "B F"], dict[str, Array]]:
        """Transform embeddings in float32; the dictionary holds new running statistics, none here."""
        return self.module(x).apply({"params": params}, x, key if train else None), {}


@dataclass(frozen=True)
class Linear(Head):
    """One matrix, as CLIP's projection."""

    def module(self, example: Any) -> nn.Module:
        return Layers((), self.features, self.bias)


@dataclass(frozen=True)
class MLP(Head):
    """`layers` matrices with a GELU between them, as SimCLR's projector.

    Args:
        hidden: size between the matrices.
        layers: number of matrices, at least 2.
    """

    hidden: int = 2048
    layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("hidden", self.hidden)
        if self.layers < 2:
            raise InputError(f"layers: {self.layers} is too few for an mlp; take at least 2, or kind linear")

    def module(self, example: Any) -> nn.Module:
        return Layers((self.hidden,) * (self.layers - 1), self.features, self.bias)


class Layers(nn.Module):
    """Dense layers with a GELU between them."""

    hidden: tuple[int, ...]
    features: int
    bias: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B D"], keys: Key[Array, "B"] | None) -> Float[Array, "B F"]:
        for i, size in enumerate(self.hidden):
            x = nn.Dense(
                size, kernel_init=kernel("embed", "mlp"), bias_init=zeros("mlp"), name=f"hidden_{i}"
            )(x)
            x = nn.gelu(constrain(x, ("batch", "mlp")))
        last = kernel("mlp" if self.hidden else "embed", "features")
        out = nn.Dense(
            self.features, use_bias=self.bias, kernel_init=last, bias_init=zeros("features"), name="out"
        )
        return constrain(out(x), ("batch", "features"))


def _positive(key: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{key}: {value} is not possible; it must be at least 1")


KINDS = {"linear": Linear, "mlp": MLP}
