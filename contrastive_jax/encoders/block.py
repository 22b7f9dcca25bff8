"""A pre-LN transformer block: self-attention, then an MLP, each added to the residual stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import Architecture
from contrastive_jax.encoders.dropout import drop_path, dropout, fold
from contrastive_jax.encoders.linen import kernel, layer_norm, zeros

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Key

TOKENS = ("batch", "length", "features")


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    architecture: Architecture

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"], mask: Bool[Array, "B T"] | None) -> Float[Array, "B T W"]:
        a, d = self.architecture, self.architecture.dimensions
        qkv = nn.DenseGeneral(
            (3, d.heads, d.width // d.heads),
            dtype=a.dtype,
            kernel_init=kernel("embed", "projections", "heads", "kv"),
            bias_init=zeros("projections", "heads", "kv"),
            name="qkv",
        )(x)
        q, k, v = (constrain(qkv[:, :, i], ("batch", "length", "heads", "kv")) for i in range(3))
        keys = None if mask is None else mask[:, None, None, :]
        y = jax.nn.dot_product_attention(q, k, v, mask=keys, is_causal=a.causal)
        return nn.DenseGeneral(
            d.width,
            axis=(-2, -1),
            dtype=a.dtype,
            kernel_init=kernel("heads", "kv", "embed", scale=0.5 / d.depth),
            bias_init=zeros("embed"),
            name="out",
        )(y)


class MLP(nn.Module):
    """Two layers with a GELU (tanh form) between them."""

    architecture: Architecture

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        a, d = self.architecture, self.architecture.dimensions
        into = nn.Dense(
            d.mlp, dtype=a.dtype, kernel_init=kernel("embed", "mlp"), bias_init=zeros("mlp"), name="in"
        )
        out = kernel("mlp", "embed", scale=0.5 / d.depth)
        x = nn.gelu(constrain(into(x), (*TOKENS[: x.ndim - 1], "mlp")))
        return nn.Dense(d.width, dtype=a.dtype, kernel_init=out, bias_init=zeros("embed"), name="out")(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); the drop-path rate grows linearly with depth."""

    architecture: Architecture

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T W"],
        layer: Array | int,
        mask: Bool[Array, "B T"] | None,
        keys: Key[Array, "B"] | None,
    ) -> tuple[Float[Array, "B T W"], None]:
        a = self.architecture
        keys = fold(keys, layer)

        def residual(y: Array, site: int) -> Array:
            y = dropout(y, a.dropout, fold(keys, 2 * site))
            if a.drop_path:
                y = drop_path(
                    y, a.drop_path * layer / max(a.dimensions.depth - 1, 1), fold(keys, 2 * site + 1)
                )
            return y

        y = layer_norm("attention_norm", a.dtype)(x)
        x = constrain(x + residual(SelfAttention(a, name="attention")(y, mask), 0), TOKENS)
        y = layer_norm("mlp_norm", a.dtype)(x)
        x = constrain(x + residual(MLP(a, name="mlp")(y), 1), TOKENS)
        return x, None
