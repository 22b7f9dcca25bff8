"""Rows that the tables of several families share, for the parameters of our transformers."""

from __future__ import annotations

from collections.abc import Iterable

from contrastive_jax.interop.names import SAME, Row, Transform
from contrastive_jax.interop.transforms import GATED, TRANSPOSED, heads_out, separate

BLOCKS = "transformer/blocks"


def one(ours: str, theirs: str, transform: Transform = SAME) -> Row:
    """A parameter that is one of their tensors."""
    return Row((ours,), (theirs,), transform)


def norm(ours: str, theirs: str) -> list[Row]:
    """Layer normalisation."""
    return [one(f"{ours}/scale", f"{theirs}.weight"), one(f"{ours}/bias", f"{theirs}.bias")]


def dense(ours: str, theirs: str) -> list[Row]:
    """A linear layer with a bias."""
    return [one(f"{ours}/kernel", f"{theirs}.weight", TRANSPOSED), one(f"{ours}/bias", f"{theirs}.bias")]


def gated(ours: str, theirs: str) -> list[Row]:
    """A linear layer whose outputs are two halves."""
    return [one(f"{ours}/kernel", f"{theirs}.weight", GATED), one(f"{ours}/bias", f"{theirs}.bias", GATED)]


def attention_out(ours: str, theirs: str, heads: int) -> list[Row]:
    """The layer from attention heads back to the stream."""
    return [
        one(f"{ours}/kernel", f"{theirs}.weight", heads_out(heads)),
        one(f"{ours}/bias", f"{theirs}.bias"),
    ]


def attention(ours: str, theirs: Iterable[str], out: str, heads: int) -> list[Row]:
    """Self-attention whose queries, keys and values are three layers of theirs."""
    theirs = tuple(theirs)
    weights, biases = (tuple(f"{name}.{kind}" for name in theirs) for kind in ("weight", "bias"))
    return [
        Row((f"{ours}/qkv/kernel",), weights, separate(heads)),
        Row((f"{ours}/qkv/bias",), biases, separate(heads)),
        *attention_out(f"{ours}/out", out, heads),
    ]
