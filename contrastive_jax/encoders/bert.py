"""The post-LN text encoders: BERT, RoBERTa, XLM-R, MPNet and the sentence encoders made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.dropout import dropout, fold
from contrastive_jax.encoders.linen import Encoded, kernel, named, zeros
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

FARTHEST = 128  # tokens apart from which the last bucket of relative positions begins


@dataclass(frozen=True)
class Bert(TokenEncoder):
    """The encoder of Devlin et al. 2019 (arXiv:1810.04805) and what came of it.

    The sum of word, position and token type embeddings is normalised; a block is
    `x = norm(x + attention(x)); x = norm(x + MLP(x))`. RoBERTa (arXiv:1907.11692) and XLM-R have one token
    type and positions from padding + 1; MPNet (arXiv:2004.09297) has no token types and adds to the
    logits of every layer a learned number by head and distance.

    Args:
        types: rows of the token type table; every token is of the first type. 0: no table.
        offset: the position of the first token.
        relative_buckets: of distances between tokens, a learned bias each; 0: none. Half of them are for
            tokens before and half for those after; half of these for one distance each, the others for
            distances growing geometrically up to 128.
        pooling: `cls`, `mean`, or `pooler`: tanh(dense(first token)).
        others: see `TokenEncoder`.
    """

    POOLINGS: ClassVar[tuple[str, ...]] = ("cls", "mean", "pooler")

    types: int = 2
    offset: int = 0
    relative_buckets: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("types", self.types, 0)
        at_least("offset", self.offset, 0)
        if self.relative_buckets and (self.relative_buckets < 4 or self.relative_buckets % 4):
            raise InputError(f"relative_buckets: {self.relative_buckets} is not a multiple of 4")

    def module(self, example: Any) -> nn.Module:
        self.check(example)
        return BertModule(self)


class Block(nn.Module):
    """norm(x + attention(x)), then norm(x + MLP(x))."""

    encoder: Bert

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T W"],
        layer: Array | int,
        mask: Bool[Array, "B 1 1 T"],
        bias: Float[Array, "1 H T T"] | None,
        keys: Key[Array, "B"] | None,
    ) -> tuple[Float[Array, "B T W"], None]:
        e, keys = self.encoder, fold(keys, layer)
        y = SelfAttention(e, biases=True, name="attention")(x, mask, bias)
        y = x + dropout(y, e.dropout, fold(keys, 0))
        x = constrain(norm(e, "attention_norm")(y), TOKENS)
        y = MLP(e, biases=True, name="mlp")(x)
        y = x + dropout(y, e.dropout, fold(keys, 1))
        return constrain(norm(e, "mlp_norm")(y), TOKENS), None


class BertModule(nn.Module):
    """Embeddings, their norm, a scan over blocks, pooling.

    Matrices start as those of `Transformer` do: a block's last ones are small, so that at first each norm
    passes nearly all of its input's gradient on.
    """

    encoder: Bert

    @nn.compact
    def __call__(self, view: Int[Array, "B L"], keys: Key[Array, "B"] | None) -> Encoded:
        e, d, length = self.encoder, self.encoder.dimensions, view.shape[1]
        start = nn.initializers.normal(d.width**-0.5)
        x = Words(e, name="words")(view)
        position = self.param("position", named(start, "length", "embed"), (e.length + e.offset, d.width))
        x = x + position[e.offset : e.offset + length].astype(x.dtype)
        if e.types:
            types = self.param("types", named(start, None, "embed"), (e.types, d.width))
            x = x + types[0].astype(x.dtype)
        x = constrain(norm(e, "norm")(x), TOKENS)
        x = dropout(x, e.dropout, fold(keys, d.depth))
        real = view != e.padding
        bias = self.relative(length) if e.relative_buckets else None
        x, _ = stack(Block, e, 3)(x, jnp.arange(d.depth), real[:, None, None, :], bias, keys)
        return Encoded(self.pooled(x, real), x, real, real, {})

    def relative(self, length: int) -> Float[Array, "1 H L L"]:
        e = self.encoder
        start = named(nn.initializers.normal(0.02), None, "heads")
        table = self.param("relative", start, (e.relative_buckets, e.dimensions.heads)).astype(e.dtype)
        bias = table[buckets(length, e.relative_buckets)].transpose(2, 0, 1)
        return constrain(bias, ("heads", "length", "length"))[None]

    def pooled(self, x: Float[Array, "B L W"], real: Bool[Array, "B L"]) -> Float[Array, "B W"]:
        e = self.encoder
        embedding = pool("cls" if e.pooling == "pooler" else e.pooling, x, real, real)
        if e.pooling == "pooler":
            dense = nn.Dense(
                e.dimensions.width,
                dtype=e.dtype,
                kernel_init=kernel("embed", "features"),
                bias_init=zeros("features"),
                name="pooler",
            )
            embedding = jnp.tanh(dense(embedding))
        return constrain(embedding.astype(jnp.float32), ("batch", "features"))


def buckets(length: int, number: int) -> Int[np.ndarray, "L L"]:
    """The bucket of the distance from each query (row) to each key (column), as in T5 (arXiv:1910.10683).

    Of the n/2 buckets of a direction the first n/4 are for the distances 0, 1, ... n/4 - 1; a distance r
    beyond is in bucket n/4 + floor(n/4 log(r / (n/4)) / log(128 / (n/4))), the last one at most. Keys after
    the query have those from n/2 on.
    """
    half, exact = number // 2, number // 4
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    far = np.abs(distance).astype(np.float32)
    fraction = np.log(np.maximum(far, 1) / exact) / np.float32(math.log(FARTHEST / exact))
    beyond = exact + (fraction * (half - exact)).astype(np.int32)
    bucket = np.where(far < exact, far.astype(np.int32), np.minimum(beyond, half - 1))
    return bucket + np.where(distance > 0, half, 0)
