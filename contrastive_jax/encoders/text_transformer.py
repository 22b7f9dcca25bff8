"""A transformer over token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import linen as nn

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import Architecture
from contrastive_jax.encoders.block import TOKENS
from contrastive_jax.encoders.linen import Encoded, named
from contrastive_jax.encoders.transformer import Transformer, TransformerEncoder
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Int, Key

PADDING = 0


@dataclass(frozen=True)
class TextTransformer(TransformerEncoder):
    """Token ids [B, L] to embeddings [B, width]; id 0 is padding and changes nothing.

    Args:
        vocabulary: number of token ids, padding included.
        length: the most tokens a text may have.
        causal: each token sees only itself and those before it, as in CLIP (with `last` pooling).
        others: see `TransformerEncoder`. `last` pools the last token that is not padding.

    Raises:
        InputError: a value that is not possible; a text longer than `length`.
    """

    vocabulary: int = 32768
    length: int = 64
    causal: bool = False

    def __post_init__(self) -> None:
        for key, value in (("vocabulary", self.vocabulary), ("length", self.length)):
            if value < 1:
                raise InputError(f"{key}: {value} is not possible; it must be at least 1")
        if self.causal and self.pooling == "cls":
            raise InputError(
                "pooling: 'cls' stands first and sees nothing of a causal text; choose last, mean or map"
            )
        super().__post_init__()

    def module(self, example: Any) -> nn.Module:
        if len(example.shape) != 2:
            raise InputError(
                f"text of shape {tuple(example.shape[1:])}; it must be token ids of shape [length]"
            )
        if example.shape[1] > self.length:
            raise InputError(
                f"length: {self.length} is less than the {example.shape[1]} tokens of a text; "
                "raise it, or cut the texts"
            )
        return TextModule(self.architecture(self.causal), self.vocabulary, self.length)

    def apply(
        self, params: Any, view: Int[Array, "B L"], *, train: bool, key: Key[Array, "B"] | None
    ) -> Encoded:
        """Encode a batch of texts; see `TransformerEncoder.apply`."""
        return super().apply(params, view, train=train, key=key)


class TextModule(nn.Module):
    """Token table and the transformer."""

    architecture: Architecture
    vocabulary: int
    length: int

    @nn.compact
    def __call__(self, view: Int[Array, "B L"], keys: Key[Array, "B"] | None) -> Encoded:
        a, width = self.architecture, self.architecture.dimensions.width
        table = named(nn.initializers.normal(width**-0.5), "vocab", "embed")
        words = nn.Embed(self.vocabulary, width, dtype=a.dtype, embedding_init=table, name="words")
        # Gathered along its width before the look-up; else each device looks up the whole batch in its part.
        whole = constrain(words.embedding.astype(a.dtype), ("vocab", "features"))
        x = constrain(jnp.take(whole, view, axis=0), TOKENS)
        return Transformer(a, self.length, name="transformer")(x, view != PADDING, keys)
