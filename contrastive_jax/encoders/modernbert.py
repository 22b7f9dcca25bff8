"""ModernBERT's text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.dropout import dropout, fold
from contrastive_jax.encoders.linen import Encoded
from contrastive_jax.encoders.pooling import pool
from contrastive_jax.encoders.token_encoder import (
    MLP,
    TOKENS,
    SelfAttention,
    TokenEncoder,
    Words,
    at_least,
    norm,
    stack,
)
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key


@dataclass(frozen=True)
class ModernBert(TokenEncoder):
    """The encoder of Warner et al. 2024 (arXiv:2412.13663).

    No biases anywhere. Token embeddings are normalised; a block is `x + attention(norm(x))`, without the
    norm in the first one, then `x + MLP(norm(x))` with a gated MLP; a norm at the end. Queries and keys are
    rotated by their position (RoPE, arXiv:2104.09864). Block 0 and every `every`-th after it see the whole
    text, the others only tokens at most `window // 2` away.

    Args:
        window: how far a local block sees, both sides together. All pairs of a text are computed and then
            masked, so a local block costs as much as a global one.
        every: of so many blocks one is global; 1: all are.
        theta, local_theta: base of the rotation's wavelengths in global and in local blocks.
        others: see `TokenEncoder`.
    """

    vocabulary: int = 50368
    length: int = 8192
    epsilon: float = 1e-5
    window: int = 128
    every: int = 3
    theta: float = 160_000.0
    local_theta: float = 10_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("window", self.window, 1)
        at_least("every", self.every, 1)
        d = self.dimensions
        if d.width // d.heads % 2:
            raise InputError(f"heads: {d.heads} of width {d.width} have an odd size, which cannot be rotated")
        for key, value in (("theta", self.theta), ("local_theta", self.local_theta)):
            if value <= 0:
                raise InputError(f"{key}: {value} is not possible; it must be above 0")

    def module(self, example: Any) -> nn.Module:
        self.check(example)
        return ModernBertModule(self)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); the first block's attention has no norm.

    So that all blocks have the same parameters the first has an attention norm too, which nothing reads.
    """

    encoder: ModernBert

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T W"],
        layer: Array | int,
        real: Bool[Array, "B T"],
        keys: Key[Array, "B"] | None,
    ) -> tuple[Float[Array, "B T W"], None]:
        e, keys = self.encoder, fold(keys, layer)
        whole = layer % e.every == 0
        places = jnp.arange(x.shape[1])
        near = whole | (jnp.abs(places[:, None] - places) <= e.window // 2)
        theta = jnp.where(whole, e.theta, e.local_theta)

        y = jnp.where(layer == 0, x, norm(e, "attention_norm", bias=False)(x))
        attention = SelfAttention(e, biases=False, name="attention")
        y = attention(y, real[:, None, None, :] & near, rotate=lambda z: rotate(z, theta))
        x = constrain(x + dropout(y, e.dropout, fold(keys, 0)), TOKENS)
        y = norm(e, "mlp_norm", bias=False)(x)
        y = MLP(e, biases=False, gated=True, name="mlp")(y)
        return constrain(x + dropout(y, e.dropout, fold(keys, 1)), TOKENS), None


class ModernBertModule(nn.Module):
    """Embeddings, their norm, a scan over blocks, the last norm, pooling."""

    encoder: ModernBert

    @nn.compact
    def __call__(self, view: Int[Array, "B L"], keys: Key[Array, "B"] | None) -> Encoded:
        e, depth = self.encoder, self.encoder.dimensions.depth
        x = constrain(norm(e, "embedding_norm", bias=False)(Words(e, name="words")(view)), TOKENS)
        x = dropout(x, e.dropout, fold(keys, depth))
        real = view != e.padding
        x, _ = stack(Block, e, 2)(x, jnp.arange(depth), real, keys)
        x = constrain(norm(e, "norm", bias=False)(x), TOKENS)
        embedding = pool(e.pooling, x, real, real).astype(jnp.float32)
        return Encoded(constrain(embedding, ("batch", "features")), x, real, real, {})


def rotate(x: Float[Array, "B T H K"], theta: float | Array) -> Float[Array, "B T H K"]:
    """Rotary position embedding: (x_k, x_{k+K/2}) turned by the angle t theta^(-2k/K) at position t."""
    half = x.shape[-1] // 2
    frequency = jnp.asarray(theta, jnp.float32) ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None, None] * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    one, two = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1).astype(x.dtype)
