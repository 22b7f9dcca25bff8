"""Reductions over a similarity matrix that is never built."""

from contrastive_jax.similarity.engine import Plan
from contrastive_jax.similarity.reductions import (
    Sums,
    cross_entropy,
    expectation,
    logsumexp,
    plan,
    top_k,
    total,
)
from contrastive_jax.similarity.tiles import Dot, Extra, Scores, Tile, Weighted

__all__ = [
    "Dot",
    "Extra",
    "Plan",
    "Scores",
    "Sums",
    "Tile",
    "Weighted",
    "cross_entropy",
    "expectation",
    "logsumexp",
    "plan",
    "top_k",
    "total",
]
