"""Contrastive pre-training in JAX: the similarity matrix is computed in tiles and never exists whole.

The names below are imported when first used, so that importing the package costs next to nothing.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "contrastive_jax.losses": (
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
    ),
    "contrastive_jax.similarity": (
        "Dot",
        "Extra",
        "Scores",
        "Sums",
        "Weighted",
        "cross_entropy",
        "expectation",
        "logsumexp",
        "top_k",
        "total",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
