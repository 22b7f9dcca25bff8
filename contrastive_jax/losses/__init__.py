"""Losses: pure functions of embeddings; and, as `KINDS`, what a config calls them."""

from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.sigmoid import SigmoidContrastive, sigmoid_contrastive
from contrastive_jax.losses.softmax import SoftmaxContrastive, softmax_contrastive

KINDS = {"softmax": SoftmaxContrastive, "sigmoid": SigmoidContrastive}

__all__ = ["KINDS", "Loss", "sigmoid_contrastive", "softmax_contrastive"]
