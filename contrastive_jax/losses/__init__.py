"""Losses: pure functions of embeddings; and, as `KINDS`, what a config calls them."""

import functools

from contrastive_jax.losses import kinds
from contrastive_jax.losses.alignment_uniformity import alignment_uniformity
from contrastive_jax.losses.attraction_repulsion import attraction_repulsion
from contrastive_jax.losses.cross_correlation import cross_correlation, mixed_barlow
from contrastive_jax.losses.gte import gte_contrastive
from contrastive_jax.losses.hardness import hard_contrastive, simple_contrastive
from contrastive_jax.losses.late_interaction import late_interaction
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.momentum_contrast import momentum_contrast
from contrastive_jax.losses.negatives import Memory
from contrastive_jax.losses.nt_xent import nt_xent
from contrastive_jax.losses.one_to_k import one_to_k
from contrastive_jax.losses.regression import cosine_regression
from contrastive_jax.losses.sigmoid import sigmoid_contrastive
from contrastive_jax.losses.softmax import softmax_contrastive
from contrastive_jax.losses.supervised import supervised_contrastive
from contrastive_jax.losses.symile import symile

__all__ = [
    "KINDS",
    "Loss",
    "Memory",
    "alignment_uniformity",
    "attraction_repulsion",
    "cosine_regression",
    "cross_correlation",
    "gte_contrastive",
    "hard_contrastive",
    "late_interaction",
    "mixed_barlow",
    "momentum_contrast",
    "nt_xent",
    "one_to_k",
    "sigmoid_contrastive",
    "simple_contrastive",
    "softmax_contrastive",
    "supervised_contrastive",
    "symile",
]


def __getattr__(name: str):
    """`KINDS` is made when first asked for: a wrapper needs what reads configs, the functions do not."""
    if name == "KINDS":
        return _kinds()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _kinds() -> dict[str, type]:
    from contrastive_jax.losses.matryoshka import Matryoshka

    return {**kinds.KINDS, "matryoshka": Matryoshka}
