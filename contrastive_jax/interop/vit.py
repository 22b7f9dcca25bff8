"""ViT as transformers has it (Dosovitskiy et al. 2021): ViTModel, and classifiers of it."""

from __future__ import annotations

from typing import Any

import jax

from contrastive_jax.errors import InputError
from contrastive_jax.interop import clip
from contrastive_jax.interop.model import Tower, Wants
from contrastive_jax.interop.names import LAYER, Row, Table
from contrastive_jax.interop.reading import Weights
from contrastive_jax.interop.rows import BLOCKS, attention, dense, norm, one
from contrastive_jax.interop.transforms import patches, squeezed

DEFAULTS: dict[str, dict[str, Any]] = {
    "image": {
        **clip.DEFAULTS["image"],
        "patch_size": 16,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qkv_bias": True,
    }
}
MEAN = STD = (0.5, 0.5, 0.5)
IGNORED = ("*pooler.dense.*", "classifier.*", "*mask_token")
ANCHOR = "embeddings.cls_token"


def settings(weights: Weights, part: str, defaults: dict[str, dict[str, Any]] = DEFAULTS) -> dict[str, Any]:
    """The config with the library's defaults; InputError for what has no counterpart here."""
    if part != "image":
        raise InputError(f"{weights.folder}: a {weights.config['model_type']} has no {part} encoder")
    found = {**defaults["image"], **weights.config}
    if not found["qkv_bias"]:
        raise InputError(f"{weights.folder}: qkv_bias=False is not supported; attention here has biases")
    return found


def architecture(weights: Weights, part: str) -> dict[str, Any]:
    found = settings(weights, part)
    return dict(
        kind="vision_transformer",
        **clip.tower(weights, found),
        patch=found["patch_size"],
        pooling="cls",
        **clip.normalization(weights, MEAN, STD),
    )


def want_image(wants: Wants, tower: Tower) -> None:
    """Notes what a ViTModel cannot be."""
    clip.want_fields(wants, tower, pooling="cls", first_norm=False, layer_scale=None, registers=0)


def config(encoder: Any, side: int) -> dict[str, Any]:
    """The config of an encoder of pictures of `side` pixels."""
    return dict(clip.image_config(encoder, side), model_type="vit", architectures=["ViTModel"], qkv_bias=True)


def example(weights: Weights, part: str) -> jax.ShapeDtypeStruct:
    return clip.example_of(settings(weights, part))


def prefix(weights: Weights) -> str:
    """What stands before every name: nothing, or `vit.` where a classifier was saved."""
    name = next((name for name in weights.names if name.endswith(ANCHOR)), ANCHOR)
    return name.removesuffix(ANCHOR)


def table(weights: Weights, part: str, encoder: Any) -> Table:
    return Table(tuple(image_rows(prefix(weights), encoder)), IGNORED)


def head(weights: Weights, part: str) -> Table | None:
    return None


def embedding_rows(prefix: str, encoder: Any) -> list[Row]:
    """Patches, class token and positions."""
    place = f"{prefix}embeddings"
    return [
        one("patches/kernel", f"{place}.patch_embeddings.projection.weight", patches(encoder.patch)),
        one("patches/bias", f"{place}.patch_embeddings.projection.bias"),
        one("transformer/class_token", f"{place}.cls_token", squeezed(2)),
        one("transformer/position", f"{place}.position_embeddings", squeezed(1)),
    ]


def attention_rows(layer: str, heads: int) -> list[Row]:
    each = [f"{layer}.attention.attention.{name}" for name in ("query", "key", "value")]
    return attention(f"{BLOCKS}/attention", each, f"{layer}.attention.output.dense", heads)


def image_rows(prefix: str, encoder: Any) -> list[Row]:
    layer = f"{prefix}encoder.layer.{LAYER}"
    return [
        *embedding_rows(prefix, encoder),
        *norm(f"{BLOCKS}/attention_norm", f"{layer}.layernorm_before"),
        *attention_rows(layer, encoder.dimensions.heads),
        *norm(f"{BLOCKS}/mlp_norm", f"{layer}.layernorm_after"),
        *dense(f"{BLOCKS}/mlp/in", f"{layer}.intermediate.dense"),
        *dense(f"{BLOCKS}/mlp/out", f"{layer}.output.dense"),
        *norm("transformer/norm", f"{prefix}layernorm"),
    ]
