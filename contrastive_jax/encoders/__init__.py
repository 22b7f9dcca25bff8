"""Encoders: from a view of an example to its embedding."""

from contrastive_jax.encoders.bert import Bert
from contrastive_jax.encoders.linen import Encoded
from contrastive_jax.encoders.modernbert import ModernBert
from contrastive_jax.encoders.resnet import ResNet
from contrastive_jax.encoders.text_transformer import TextTransformer
from contrastive_jax.encoders.vision_transformer import VisionTransformer

__all__ = ["KINDS", "Bert", "Encoded", "ModernBert", "ResNet", "TextTransformer", "VisionTransformer"]

KINDS = {
    "vision_transformer": VisionTransformer,
    "resnet": ResNet,
    "text_transformer": TextTransformer,
    "bert": Bert,
    "modernbert": ModernBert,
}
