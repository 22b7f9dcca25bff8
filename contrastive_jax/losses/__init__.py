"""Losses: pure functions of embeddings; and, as `KINDS`, what a config calls them."""

from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.nt_xent import NTXent, nt_xent
from contrastive_jax.losses.one_to_k import OneToK, one_to_k
from contrastive_jax.losses.sigmoid import SigmoidContrastive, sigmoid_contrastive
from contrastive_jax.losses.softmax import SoftmaxContrastive, softmax_contrastive
from contrastive_jax.losses.supervised import SupervisedContrastive, supervised_contrastive

KINDS = {
    "softmax": SoftmaxContrastive,
    "sigmoid": SigmoidContrastive,
    "nt_xent": NTXent,
    "supervised": SupervisedContrastive,
    "one_to_k": OneToK,
}

__all__ = [
    "KINDS",
    "Loss",
    "nt_xent",
    "one_to_k",
    "sigmoid_contrastive",
    "softmax_contrastive",
    "supervised_contrastive",
]
