"""From the tokens of an example to its one vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import Architecture
from contrastive_jax.encoders.block import MLP
from contrastive_jax.encoders.linen import kernel, layer_norm, named, zeros

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


def pool(
    kind: str, tokens: Float[Array, "B T W"], mask: Bool[Array, "B T"], pool_mask: Bool[Array, "B T"]
) -> Float[Array, "B W"]:
    """One vector an example without parameters.

    Args:
        kind: `cls`, the first token; `mean`, the mean (float32) of the tokens in `pool_mask`, 0 if
            there is none; `last`, the last token in `mask` (the end-of-sequence token of CLIP).
    """
    if kind == "cls":
        return tokens[:, 0]
    if kind == "mean":
        weight = pool_mask.astype(jnp.float32)
        total = jnp.einsum("btw,bt->bw", tokens, weight, preferred_element_type=jnp.float32)
        return total / jnp.maximum(weight.sum(-1, keepdims=True), 1)
    last = jnp.max(jnp.where(mask, jnp.arange(mask.shape[1]), 0), axis=1)
    return jnp.take_along_axis(tokens, last[:, None, None], axis=1)[:, 0]


class AttentionPooling(nn.Module):
    """A learned query attends to the tokens, then a residual MLP (`map` of Zhai et al. 2022)."""

    architecture: Architecture

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"], mask: Bool[Array, "B T"]) -> Float[Array, "B W"]:
        a, d = self.architecture, self.architecture.dimensions
        each = (d.heads, d.width // d.heads)
        query = self.param("query", named(nn.initializers.normal(d.width**-0.5), "embed"), (d.width,))
        q = nn.DenseGeneral(
            each,
            dtype=a.dtype,
            kernel_init=kernel("embed", "heads", "kv"),
            bias_init=zeros("heads", "kv"),
            name="q",
        )(query)
        kv = nn.DenseGeneral(
            (2, *each),
            dtype=a.dtype,
            kernel_init=kernel("embed", "projections", "heads", "kv"),
            bias_init=zeros("projections", "heads", "kv"),
            name="kv",
        )(x)
        k, v = (constrain(kv[:, :, i], ("batch", "length", "heads", "kv")) for i in range(2))
        q = jnp.broadcast_to(q, (x.shape[0], 1, *each))
        y = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
        y = nn.DenseGeneral(
            d.width,
            axis=(-2, -1),
            dtype=a.dtype,
            kernel_init=kernel("heads", "kv", "embed"),
            bias_init=zeros("embed"),
            name="out",
        )(y[:, 0])
        y = constrain(y, ("batch", "features"))
        return y + MLP(a, name="mlp")(layer_norm("norm", a.dtype, a.epsilon)(y))
