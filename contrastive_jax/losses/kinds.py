"""What a config calls the losses that stand for themselves; `losses.KINDS` has their wrappers as well."""

from contrastive_jax.losses.alignment_uniformity import AlignmentUniformity
from contrastive_jax.losses.attraction_repulsion import AttractionRepulsion
from contrastive_jax.losses.cross_correlation import CrossCorrelation, MixedBarlow
from contrastive_jax.losses.gte import GTEContrastive
from contrastive_jax.losses.hardness import HardContrastive, SimpleContrastive
from contrastive_jax.losses.momentum_contrast import MomentumContrast
from contrastive_jax.losses.nt_xent import NTXent
from contrastive_jax.losses.one_to_k import OneToK
from contrastive_jax.losses.regression import CosineRegression
from contrastive_jax.losses.sigmoid import SigmoidContrastive
from contrastive_jax.losses.softmax import SoftmaxContrastive
from contrastive_jax.losses.supervised import SupervisedContrastive
from contrastive_jax.losses.symile import Symile

KINDS = {
    "softmax": SoftmaxContrastive,
    "sigmoid": SigmoidContrastive,
    "nt_xent": NTXent,
    "supervised": SupervisedContrastive,
    "one_to_k": OneToK,
    "attraction_repulsion": AttractionRepulsion,
    "gte": GTEContrastive,
    "symile": Symile,
    "momentum_contrast": MomentumContrast,
    "hard_contrastive": HardContrastive,
    "simple_contrastive": SimpleContrastive,
    "alignment_uniformity": AlignmentUniformity,
    "cosine_regression": CosineRegression,
    "cross_correlation": CrossCorrelation,
    "mixed_barlow": MixedBarlow,
}
