"""Reductions over a similarity matrix that is never built."""

from contrastive_jax.similarity.reductions import Sums, cross_entropy, logsumexp, top_k, total
from contrastive_jax.similarity.tiles import Dot, Extra, Scores, Tile, Weighted

__all__ = [
    "Dot",
    "Extra",
    "Scores",
    "Sums",
    "Tile",
    "Weighted",
    "cross_entropy",
    "logsumexp",
    "top_k",
    "total",
]
