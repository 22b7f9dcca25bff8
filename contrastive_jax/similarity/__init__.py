"""Reductions over a similarity matrix that is never built."""

from contrastive_jax.similarity.reductions import Sums, cross_entropy, logsumexp, top_k, total
from contrastive_jax.similarity.tiles import Scores, Tile

__all__ = ["Scores", "Sums", "Tile", "cross_entropy", "logsumexp", "top_k", "total"]
