"""The pre-LN transformer that images and text share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import (
    ACTIVATIONS,
    DTYPES,
    POOLINGS,
    Architecture,
    Dimensions,
    dimensions,
    one_of,
    rate,
)
from contrastive_jax.encoders.block import TOKENS, Block
from contrastive_jax.encoders.dropout import dropout, fold
from contrastive_jax.encoders.linen import Boundary, Encoded, layer_norm, named, zeros
from contrastive_jax.encoders.pooling import AttentionPooling, pool
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Key


@dataclass(frozen=True)
class TransformerEncoder(Boundary):
    """What images and text share; not an encoder by itself.

    Args:
        size: `micro`, `Ti`, `S`, `B` or `L`: a row of `architecture.SIZES`.
        width, depth, heads, mlp: this in place of the size's own; an own width brings an MLP of 4 widths.
        pooling: `cls` (a class token), `mean` (of real tokens), `map` (attention with a learned query).
        dropout: rate after the embedding, the attention and the MLP.
        drop_path: rate of the last block's residual branches; from 0 at the first it grows linearly.
        dtype: `float32` or `bfloat16` for computing; parameters, statistics and embeddings are float32.
        remat: recompute each block in the backward pass, keeping only its input.
        unroll: blocks in one step of the scan over blocks; None unrolls up to 4 and scans more singly.
        activation: of the MLPs: `gelu_tanh` (GELU, tanh form), `gelu` (exact), `quick_gelu`
            (x sigmoid(1.702 x)), `swiglu` (gated, two matrices in).
        epsilon: what layer normalisation adds to variances.
        first_norm: a layer normalisation between the positions and the first block, as in CLIP.
        layer_scale: the first value of learned factors on the residual branches; None has none.
    """

    size: str = "B"
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    mlp: int | None = None
    pooling: str = "map"
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: str = "float32"
    remat: bool = False
    unroll: int | None = None
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    first_norm: bool = False
    layer_scale: float | None = None

    def __post_init__(self) -> None:
        one_of("pooling", self.pooling, POOLINGS)
        one_of("dtype", self.dtype, DTYPES)
        one_of("activation", self.activation, ACTIVATIONS)
        if self.epsilon <= 0:
            raise InputError(f"epsilon: {self.epsilon} is not possible; it must be more than 0")
        rate("dropout", self.dropout)
        rate("drop_path", self.drop_path)
        if self.unroll is not None and self.unroll < 1:
            raise InputError(f"unroll: {self.unroll} is not possible; it must be at least 1")
        self.architecture()

    @property
    def dimensions(self) -> Dimensions:
        """The size's dimensions with the given ones in their place."""
        return dimensions(self.size, self.width, self.depth, self.heads, self.mlp)

    def architecture(self, causal: bool = False, registers: int = 0) -> Architecture:
        """The dimensions and options with the size's table looked up."""
        d = self.dimensions
        unroll = self.unroll or (d.depth if d.depth <= 4 else 1)
        return Architecture(
            d,
            self.pooling,
            causal,
            self.dropout,
            self.drop_path,
            self.dtype,
            self.remat,
            unroll,
            self.activation,
            self.epsilon,
            self.first_norm,
            self.layer_scale,
            registers,
        )

    def apply(self, params: Any, view: Array, *, train: bool, key: Key[Array, "B"] | None) -> Encoded:
        """Encode a batch.

        Args:
            params: what `init` gave.
            view: the batch, its examples first.
            train: whether to drop; without it `key` is not looked at.
            key: a key an example; None if nothing is dropped.

        Returns:
            `Encoded` with a float32 embedding [B, width], not normalised.
        """
        if train and key is None and (self.dropout or self.drop_path):
            raise ValueError("an encoder with dropout or drop_path needs a key an example to train")
        return self.module(view).apply({"params": params}, view, key if train else None)


class Transformer(nn.Module):
    """Class token, learned positions, registers, a scan over blocks, final norm and pooling.

    Matrices start from a truncated normal of variance 1 / fan_in, those that write to the residual
    stream of 1 / (2 depth fan_in) as in GPT-2 and CLIP, so that its size does not grow with depth;
    positions and tokens from a normal of variance 1 / width; biases from 0.
    """

    architecture: Architecture
    length: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T W"],
        mask: Bool[Array, "B T"] | None,
        keys: Key[Array, "B"] | None,
    ) -> Encoded:
        a, d = self.architecture, self.architecture.dimensions
        real = jnp.ones(x.shape[:2], bool) if mask is None else mask
        pool_mask = real
        first = int(a.pooling == "cls")
        if first:
            token = self.param("class_token", zeros("embed"), (d.width,)).astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, d.width)), x], axis=1)
            real = jnp.pad(real, ((0, 0), (1, 0)), constant_values=True)
            pool_mask = jnp.pad(pool_mask, ((0, 0), (1, 0)), constant_values=False)
        start = named(nn.initializers.normal(d.width**-0.5), "length", "embed")
        position = self.param("position", start, (self.length + first, d.width))
        x = constrain(x + position[: x.shape[1]].astype(x.dtype), TOKENS)
        if a.registers:
            x, real, pool_mask = self.with_registers(x, real, pool_mask, first)
        if a.first_norm:
            x = constrain(layer_norm("first_norm", a.dtype, a.epsilon)(x), TOKENS)
        x = dropout(x, a.dropout, fold(keys, d.depth))
        blocks = stack(a, name="blocks")
        x, _ = blocks(x, jnp.arange(d.depth), None if mask is None else real, keys)
        x = constrain(layer_norm("norm", a.dtype, a.epsilon)(x), TOKENS)
        if a.pooling == "map":
            embedding = AttentionPooling(a, name="pooling")(x, real)
        else:
            embedding = pool(a.pooling, x, real, pool_mask)
        embedding = constrain(embedding.astype(jnp.float32), ("batch", "features"))
        return Encoded(embedding, x, real, pool_mask, {})

    def with_registers(
        self, x: Float[Array, "B T W"], real: Bool[Array, "B T"], pool_mask: Bool[Array, "B T"], at: int
    ) -> tuple[Float[Array, "B S W"], Bool[Array, "B S"], Bool[Array, "B S"]]:
        """Learned tokens without a position, after the class token if any (Darcet et al. 2024)."""
        count, width = self.architecture.registers, x.shape[2]
        tokens = self.param("registers", named(nn.initializers.normal(0.02), None, "embed"), (count, width))
        tokens = jnp.broadcast_to(tokens.astype(x.dtype), (x.shape[0], count, width))

        def put(whole: Array, new: Array) -> Array:
            return jnp.concatenate([whole[:, :at], new, whole[:, at:]], axis=1)

        ones = jnp.ones((x.shape[0], count), bool)
        return put(x, tokens), put(real, ones), put(pool_mask, ~ones)


def stack(architecture: Architecture, name: str | None = None) -> nn.Module:
    """The blocks as one module that scans over them; their parameters have a leading axis `layers`.

    It is called with the tokens, `arange(depth)`, the mask or None, and the keys or None, and gives
    the tokens and None.
    """
    depth, unroll = architecture.dimensions.depth, architecture.unroll
    # Inside a loop nothing can be merged across iterations; in unrolled code it can.
    block = nn.remat(Block, prevent_cse=unroll > 1) if architecture.remat else Block
    scanned = nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast, nn.broadcast),
        length=depth,
        unroll=min(unroll, depth),
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    return scanned(architecture, name=name)
