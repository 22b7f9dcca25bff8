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
    from jaxtyping import Array, Bool, Int, Key


@dataclass(frozen=True)
class TextTransformer(TransformerEncoder):
    """Token ids [B, L] to embeddings [B, width]; padding changes nothing.

    Args:
        vocabulary: number of token ids, padding included.
        length: the most tokens a text may have.
        causal: each token sees only itself and those before it, as in CLIP (with `last` pooling).
        padding: the id that is no token; None if every id is one and is seen, as in SigLIP.
        end: the id that ends a text: what comes after the first one is padding, whatever its id, and
            nothing before it is (in CLIP's vocabulary 0 is a word). None ends a text at its padding.
        others: see `TransformerEncoder`. `last` pools the last token that is not padding.

    Raises:
        InputError: a value that is not possible; a text longer than `length`.
    """

    vocabulary: int = 32768
    length: int = 64
    causal: bool = False
    padding: int | None = 0
    end: int | None = None

    def __post_init__(self) -> None:
        for key, value in (("vocabulary", self.vocabulary), ("length", self.length)):
            if value < 1:
                raise InputError(f"{key}: {value} is not possible; it must be at least 1")
        for key, value in (("padding", self.padding), ("end", self.end)):
            if value is not None and not 0 <= value < self.vocabulary:
                raise InputError(f"{key}: {value} is no id of a vocabulary of {self.vocabulary}")
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
        return TextModule(
            self.architecture(self.causal), self.vocabulary, self.length, self.padding, self.end
        )

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
    padding: int | None = 0
    end: int | None = None

    @nn.compact
    def __call__(self, view: Int[Array, "B L"], keys: Key[Array, "B"] | None) -> Encoded:
        a, width = self.architecture, self.architecture.dimensions.width
        table = named(nn.initializers.normal(width**-0.5), "vocab", "embed")
        words = nn.Embed(self.vocabulary, width, dtype=a.dtype, embedding_init=table, name="words")
        # Gathered along its width before the look-up; else each device looks up the whole batch in its part.
        whole = constrain(words.embedding.astype(a.dtype), ("vocab", "features"))
        x = constrain(jnp.take(whole, view, axis=0), TOKENS)
        return Transformer(a, self.length, name="transformer")(x, self.tokens(view), keys)

    def tokens(self, view: Int[Array, "B L"]) -> Bool[Array, "B L"] | None:
        """Which ids are tokens of the text; None for all."""
        if self.end is not None:
            ends = jnp.cumsum(view == self.end, axis=1)
            return ends - (view == self.end) == 0
        return None if self.padding is None else view != self.padding
