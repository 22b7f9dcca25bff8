"""Losses: pure functions of embeddings; and, as `KINDS`, what a config calls them."""

from contrastive_jax.losses.attraction_repulsion import AttractionRepulsion, attraction_repulsion
from contrastive_jax.losses.gte import GTEContrastive, gte_contrastive
from contrastive_jax.losses.late_interaction import late_interaction
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.nt_xent import NTXent, nt_xent
from contrastive_jax.losses.one_to_k import OneToK, one_to_k
from contrastive_jax.losses.sigmoid import SigmoidContrastive, sigmoid_contrastive
from contrastive_jax.losses.softmax import SoftmaxContrastive, softmax_contrastive
from contrastive_jax.losses.supervised import SupervisedContrastive, supervised_contrastive
from contrastive_jax.losses.symile import Symile, symile

KINDS = {
    "softmax": SoftmaxContrastive,
    "sigmoid": SigmoidContrastive,
    "nt_xent": NTXent,
    "supervised": SupervisedContrastive,
    "one_to_k": OneToK,
    "attraction_repulsion": AttractionRepulsion,
    "gte": GTEContrastive,
    "symile": Symile,
}

__all__ = [
    "KINDS",
    "Loss",
    "attraction_repulsion",
    "gte_contrastive",
    "late_interaction",
    "nt_xent",
    "one_to_k",
    "sigmoid_contrastive",
    "softmax_contrastive",
    "supervised_contrastive",
    "symile",
]
