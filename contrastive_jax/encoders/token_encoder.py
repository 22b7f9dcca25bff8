"""What the published text encoders (BERT's and ModernBERT's families) share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import DTYPES, Dimensions, at_least, dimensions, one_of, rate
from contrastive_jax.encoders.linen import Boundary, Encoded, kernel, named, zeros
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Array, Bool, Float, Int, Key

TOKENS = ("batch", "length", "features")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


@dataclass(frozen=True)
class TokenEncoder(Boundary):
    """Token ids [B, L] to embeddings [B, width]; not an encoder by itself.

    Args:
        size: `micro`, `Ti`, `S`, `B` or `L`: a row of `architecture.SIZES`.
        width, depth, heads, mlp: this in place of the size's own; an own width brings an MLP of 4 widths.
        vocabulary: number of token ids.
        length: the most tokens a text may have.
        padding: the id that is no token: nothing looks at it.
        activation: of the MLP: `gelu` (exact), `gelu_tanh`, `relu` or `silu`.
        epsilon: what layer normalisation adds to the variance.
        pooling: `cls`, the first token, or `mean`, of all tokens but padding.
        dropout: rate after the embedding, the attention and the MLP.
        dtype: `float32` or `bfloat16` for computing; parameters, statistics and embeddings are float32.
        remat: recompute each block in the backward pass, keeping only its input.
        unroll: blocks in one step of the scan over blocks; None unrolls up to 4 and scans more singly.

    Raises:
        InputError: a value that is not possible; a text longer than `length`.
    """

    POOLINGS: ClassVar[tuple[str, ...]] = ("cls", "mean")

    size: str = "B"
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    mlp: int | None = None
    vocabulary: int = 30522
    length: int = 512
    padding: int = 0
    activation: str = "gelu"
    epsilon: float = 1e-12
    pooling: str = "mean"
    dropout: float = 0.0
    dtype: str = "float32"
    remat: bool = False
    unroll: int | None = None

    def __post_init__(self) -> None:
        one_of("pooling", self.pooling, self.POOLINGS)
        one_of("dtype", self.dtype, DTYPES)
        one_of("activation", self.activation, tuple(ACTIVATIONS))
        rate("dropout", self.dropout)
        at_least("vocabulary", self.vocabulary, 1)
        at_least("length", self.length, 1)
        at_least("unroll", 1 if self.unroll is None else self.unroll, 1)
        if not 0 <= self.padding < self.vocabulary:
            raise InputError(f"padding: {self.padding} is not a token id below vocabulary={self.vocabulary}")
        if self.epsilon <= 0:
            raise InputError(f"epsilon: {self.epsilon} is not possible; it must be above 0")
        _ = self.dimensions

    @property
    def dimensions(self) -> Dimensions:
        """The size's dimensions with the given ones in their place."""
        return dimensions(self.size, self.width, self.depth, self.heads, self.mlp)

    def check(self, example: Any) -> None:
        """Raise an InputError unless `example` has the shape of texts that fit."""
        if len(example.shape) != 2:
            raise InputError(
                f"text of shape {tuple(example.shape[1:])}; it must be token ids of shape [length]"
            )
        if example.shape[1] > self.length:
            raise InputError(
                f"length: {self.length} is less than the {example.shape[1]} tokens of a text; "
                "raise it, or cut the texts"
            )

    def apply(
        self, params: Any, view: Int[Array, "B L"], *, train: bool, key: Key[Array, "B"] | None
    ) -> Encoded:
        """Encode a batch of texts.

        Args:
            params: what `init` gave.
            view: token ids; a text ends with as much padding as it needs.
            train: whether to drop; without it `key` is not looked at.
            key: a key an example; None if nothing is dropped.

        Returns:
            `Encoded` with a float32 embedding [B, width], not normalised.
        """
        if train and key is None and self.dropout:
            raise ValueError("an encoder with dropout needs a key an example to train")
        return self.module(view).apply({"params": params}, view, key if train else None)


class Words(nn.Module):
    """The table of token embeddings."""

    encoder: TokenEncoder

    @nn.compact
    def __call__(self, view: Int[Array, "B L"]) -> Float[Array, "B L W"]:
        e, width = self.encoder, self.encoder.dimensions.width
        start = named(nn.initializers.normal(width**-0.5), "vocab", "embed")
        table = self.param("embedding", start, (e.vocabulary, width)).astype(e.dtype)
        # Gathered along its width before the look-up; else each device looks up the whole batch in its part.
        return constrain(jnp.take(constrain(table, ("vocab", "features")), view, axis=0), TOKENS)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values.

    mask: which keys a query sees, [B, 1, 1 | T, T]; bias: added to the logits, [1, H, T, T]; rotate: what
    is done to queries and keys [B, T, H, K], as a rotary position embedding.
    """

    encoder: TokenEncoder
    biases: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T W"],
        mask: Bool[Array, "B 1 _ T"],
        bias: Float[Array, "1 H T T"] | None = None,
        rotate: Callable[[Array], Array] | None = None,
    ) -> Float[Array, "B T W"]:
        e, d = self.encoder, self.encoder.dimensions
        qkv = nn.DenseGeneral(
            (3, d.heads, d.width // d.heads),
            use_bias=self.biases,
            dtype=e.dtype,
            kernel_init=kernel("embed", "projections", "heads", "kv"),
            bias_init=zeros("projections", "heads", "kv"),
            name="qkv",
        )(x)
        q, k, v = (constrain(qkv[:, :, i], ("batch", "length", "heads", "kv")) for i in range(3))
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        y = jax.nn.dot_product_attention(q, k, v, bias=bias, mask=mask)
        return nn.DenseGeneral(
            d.width,
            axis=(-2, -1),
            use_bias=self.biases,
            dtype=e.dtype,
            kernel_init=kernel("heads", "kv", "embed", scale=0.5 / d.depth),
            bias_init=zeros("embed"),
            name="out",
        )(y)


class MLP(nn.Module):
    """activation(x A) B, or gated (GEGLU, arXiv:2002.05202): (activation(x A) * (x G)) B."""

    encoder: TokenEncoder
    biases: bool
    gated: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        e, d = self.encoder, self.encoder.dimensions
        into = nn.DenseGeneral(
            (2, d.mlp) if self.gated else d.mlp,
            use_bias=self.biases,
            dtype=e.dtype,
            kernel_init=kernel("embed", *["projections"] * self.gated, "mlp"),
            bias_init=zeros(*["projections"] * self.gated, "mlp"),
            name="in",
        )(x)
        parts = [into[:, :, 0], into[:, :, 1]] if self.gated else [into]
        parts = [constrain(part, ("batch", "length", "mlp")) for part in parts]
        y = ACTIVATIONS[e.activation](parts[0]) * (parts[1] if self.gated else 1)
        out = kernel("mlp", "embed", scale=0.5 / d.depth)
        bias = zeros("embed")
        return nn.Dense(
            d.width, use_bias=self.biases, dtype=e.dtype, kernel_init=out, bias_init=bias, name="out"
        )(y)


def norm(encoder: TokenEncoder, name: str, *, bias: bool = True) -> nn.LayerNorm:
    """Layer normalisation with float32 statistics, the variance from the differences to the mean."""
    ones = named(nn.initializers.ones, "embed")
    return nn.LayerNorm(
        epsilon=encoder.epsilon,
        dtype=encoder.dtype,
        use_bias=bias,
        use_fast_variance=False,
        scale_init=ones,
        bias_init=zeros("embed"),
        name=name,
    )


def stack(block: type[nn.Module], encoder: TokenEncoder, inputs: int) -> nn.Module:
    """The blocks as one module that scans over them; their parameters have a leading axis `layers`.

    It is called with the tokens, `arange(depth)` and `inputs` further things that each block gets.
    """
    depth = encoder.dimensions.depth
    unroll = encoder.unroll or (depth if depth <= 4 else 1)
    # Inside a loop nothing can be merged across iterations; in unrolled code it can.
    block = nn.remat(block, prevent_cse=unroll > 1) if encoder.remat else block
    scanned = nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, *(nn.broadcast,) * inputs),
        length=depth,
        unroll=min(unroll, depth),
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    return scanned(encoder, name="blocks")
