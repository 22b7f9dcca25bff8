"""A pre-LN transformer block: self-attention, then an MLP, each added to the residual stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import Architecture
from contrastive_jax.encoders.dropout import drop_path, dropout, fold
from contrastive_jax.encoders.linen import kernel, layer_norm, named, zeros

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
    """Two layers with an activation between them: one of `ACTIVATIONS`, all but the last by element.

    `swiglu`: the first layer has two halves, and silu(first half) * second half goes on (Shazeer 2020).
    """

    architecture: Architecture

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        a, d = self.architecture, self.architecture.dimensions
        gated = a.activation == "swiglu"
        names = ("projections", "mlp") if gated else ("mlp",)
        into = nn.DenseGeneral(
            (2, d.mlp) if gated else d.mlp,
            dtype=a.dtype,
            kernel_init=kernel("embed", *names),
            bias_init=zeros(*names),
            name="in",
        )
        out = kernel("mlp", "embed", scale=0.5 / d.depth)
        x = constrain(into(x), (*TOKENS[: x.ndim - 1], *names))
        x = nn.silu(x[..., 0, :]) * x[..., 1, :] if gated else _ELEMENTWISE[a.activation](x)
        return nn.Dense(d.width, dtype=a.dtype, kernel_init=out, bias_init=zeros("embed"), name="out")(x)


_ELEMENTWISE = {
    "gelu_tanh": nn.gelu,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),  # of OpenAI's CLIP
}


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); the drop-path rate grows linearly with depth.

    With `layer_scale` each of the two is multiplied by learned factors, one a feature, before it is added
    (Touvron et al. 2021).
    """

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

        def residual(y: Array, site: int, scale: str) -> Array:
            if a.layer_scale is not None:
                start = named(nn.initializers.constant(a.layer_scale), "embed")
                y = y * self.param(scale, start, (a.dimensions.width,)).astype(y.dtype)
            y = dropout(y, a.dropout, fold(keys, 2 * site))
            if a.drop_path:
                y = drop_path(
                    y, a.drop_path * layer / max(a.dimensions.depth - 1, 1), fold(keys, 2 * site + 1)
                )
            return y

        y = layer_norm("attention_norm", a.dtype, a.epsilon)(x)
        y = SelfAttention(a, name="attention")(y, mask)
        x = constrain(x + residual(y, 0, "attention_scale"), TOKENS)
        y = layer_norm("mlp_norm", a.dtype, a.epsilon)(x)
        x = constrain(x + residual(MLP(a, name="mlp")(y), 1, "mlp_scale"), TOKENS)
        return x, None
