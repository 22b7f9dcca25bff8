"""Heads: stages on the embeddings of the whole batch [B, D]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import at_least, one_of, rate
from contrastive_jax.encoders.batch_norm import Moments, batch_norm, no_moments
from contrastive_jax.encoders.direct_predictor import DirectPredictor
from contrastive_jax.encoders.head import Head
from contrastive_jax.encoders.linen import Boundary, kernel, named, zeros
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Array, Bool, Float, Key

NORMS = ("none", "batch", "asymmetric_batch", "layer")
ACTIVATIONS = {"gelu": nn.gelu, "relu": nn.relu, "tanh": nn.tanh}


@dataclass(frozen=True)
class Matrices(Boundary, Head):
    """What heads of matrices share, whose parameters are those of a Linen module.

    Args:
        features: size of the embeddings that come out.
        bias: whether the last matrix has a bias.
    """

    features: int = 512
    bias: bool = False

    def __post_init__(self) -> None:
        at_least("features", self.features, 1)

    def apply(
        self,
        params: Any,
        x: Float[Array, "B D"],
        *,
        train: bool,
        key: Key[Array, "B"] | None,
        statistics: Mapping[str, Array] = {},
        turn: Bool[Array, ""] | bool = True,
    ) -> tuple[Float[Array, "B F"], dict[str, Array]]:
        keys = key if train else None
        statistics = {**self.statistics(x), **statistics}
        return self.module(x).apply({"params": params}, x, keys, statistics, self.by_batch(train, turn))

    def by_batch(self, train: bool, turn: Bool[Array, ""] | bool) -> Bool[Array, ""] | bool:
        """Whether norms take the moments of this batch."""
        return False


@dataclass(frozen=True)
class Linear(Matrices):
    """One matrix, as CLIP's projection."""

    def module(self, example: Any) -> nn.Module:
        return Layers((), self.features, self.bias)


@dataclass(frozen=True)
class MLP(Matrices):
    """`layers` matrices, each but the last followed by a norm (if any) and an activation.

    SimCLR's projector is the default with norm="batch", activation="relu"; those of SimSiam and MoCo v3
    have last_norm=True as well; SimCSE's head is layers=1, bias=True, last_activation="tanh".

    Args:
        hidden: size between the matrices.
        layers: number of matrices, at least 1.
        norm: `none`; `batch`, by the statistics of the whole batch, wherever its rows lie, and in
            evaluation by running ones; `asymmetric_batch`, the same, but in training only the side that
            has its turn takes, and updates, those of the batch, so that no side can find its partner by
            the batch that they share (CCP, arXiv 2206.03281); `layer`, example by example. A matrix that
            a norm follows has no bias: the norm has one.
        last_norm: the same norm after the last matrix, without scale and bias.
        activation: between matrices: `gelu`, `relu` or `tanh`; last_activation: at the end, or `none`.
        momentum: the share of the running statistics that a batch leaves as it is.
        epsilon: added to variances.
    """

    hidden: int = 2048
    layers: int = 2
    norm: str = "none"
    last_norm: bool = False
    activation: str = "gelu"
    last_activation: str = "none"
    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("hidden", "layers"):
            at_least(key, getattr(self, key), 1)
        for key, known in (
            ("norm", NORMS),
            ("activation", tuple(ACTIVATIONS)),
            ("last_activation", ("none", *ACTIVATIONS)),
        ):
            one_of(key, getattr(self, key), known)
        if self.last_norm and self.norm == "none":
            raise InputError("last_norm=True repeats the norm and norm=none: name a norm, or drop last_norm")
        rate("momentum", self.momentum)
        if self.epsilon <= 0:
            raise InputError(f"epsilon={self.epsilon}: give a positive number")

    def module(self, example: Any) -> nn.Module:
        return Layers((self.hidden,) * (self.layers - 1), self.features, self.bias, self)

    def by_batch(self, train: bool, turn: Bool[Array, ""] | bool) -> Bool[Array, ""] | bool:
        return train and (self.norm == "batch" or turn)

    def statistics(self, example: Any) -> dict[str, Float[Array, " F"]]:
        """{"hidden_0_mean", "hidden_0_variance", ..., "out_mean", ...} of batch norms."""
        if self.norm not in ("batch", "asymmetric_batch"):
            return {}
        sizes = {f"hidden_{i}": self.hidden for i in range(self.layers - 1)}
        sizes |= {"out": self.features} if self.last_norm else {}
        each = {name: no_moments(size)._asdict() for name, size in sizes.items()}
        return {f"{name}_{m}": value for name, moments in each.items() for m, value in moments.items()}


class Layers(nn.Module):
    """Matrices with norms and activations between them, those of an MLP."""

    hidden: tuple[int, ...]
    features: int
    bias: bool
    style: MLP = MLP()

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B D"],
        keys: Key[Array, "B"] | None,
        statistics: Mapping[str, Array] = {},
        batch: Bool[Array, ""] | bool = False,
    ) -> tuple[Float[Array, "B F"], dict[str, Array]]:
        """batch: whether norms take the moments of this batch, see `batch_norm`."""
        style, new = self.style, dict(statistics)
        for i, size in enumerate(self.hidden):
            name, start = f"hidden_{i}", kernel("embed", "mlp")
            dense = nn.Dense(size, style.norm == "none", kernel_init=start, bias_init=zeros("mlp"), name=name)
            x = constrain(dense(x), ("batch", "mlp"))
            if style.norm != "none":
                x = Norm(style, "mlp", name=f"{name}_norm")(x, name, new, batch)
            x = ACTIVATIONS[style.activation](x)
        start, bias = kernel("mlp" if self.hidden else "embed", "features"), zeros("features")
        x = nn.Dense(self.features, self.bias, kernel_init=start, bias_init=bias, name="out")(x)
        x = constrain(x, ("batch", "features"))
        if style.last_norm:
            x = Norm(style, None, name="out_norm")(x, "out", new, batch)
        if style.last_activation != "none":
            x = ACTIVATIONS[style.last_activation](x)
        return x, new


class Norm(nn.Module):
    """A norm with a scale and a bias for each feature, which is called `axis`; None: without them."""

    style: MLP
    axis: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "B F"], name: str, statistics: dict[str, Array], batch) -> Array:
        """statistics: those of `name` are read and replaced."""
        if self.style.norm == "layer":
            x = nn.LayerNorm(self.style.epsilon, use_bias=False, use_scale=False)(x)
        else:
            keys = [f"{name}_{moment}" for moment in Moments._fields]
            start = no_moments(x.shape[-1])  # while parameters are made there are no statistics
            running = Moments(*(statistics.get(k, s) for k, s in zip(keys, start)))
            x, moments = batch_norm(x, running, batch, self.style.momentum, self.style.epsilon)
            statistics |= dict(zip(keys, moments))
        if self.axis is None:
            return x
        scale = self.param("scale", named(nn.initializers.ones, self.axis), x.shape[-1:])
        return x * scale + self.param("bias", zeros(self.axis), x.shape[-1:])


KINDS = {"linear": Linear, "mlp": MLP, "direct_predictor": DirectPredictor}
