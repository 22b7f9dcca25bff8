"""open_clip's own vision transformers and the text transformers beside them (Ilharco et al. 2021)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.interop import clip
from contrastive_jax.interop.names import LAYER, Row, Table
from contrastive_jax.interop.reading import Weights
from contrastive_jax.interop.rows import BLOCKS, attention_out, dense, norm, one
from contrastive_jax.interop.transforms import TRANSPOSED, fused, patches

DEFAULTS: dict[str, dict[str, Any]] = {
    "image": dict(
        layers=12,
        width=768,
        head_width=64,
        mlp_ratio=4.0,
        patch_size=16,
        image_size=224,
        ls_init_value=None,
        no_ln_pre=False,
        pool_type="tok",
    ),
    "text": dict(
        context_length=77,
        vocab_size=49408,
        width=512,
        heads=8,
        layers=12,
        mlp_ratio=4.0,
        ls_init_value=None,
        eos_id=2,
        no_causal_mask=False,
        pool_type="argmax",
        proj_bias=False,
        proj_type="linear",
    ),
}
# What a model may not have, and the values that mean that it has not.
_NONE = (None, False, "")
_REFUSED = ("timm_model_name", "hf_model_name", "attentional_pool", "embed_cls", "block_type", "qk_norm")
_REFUSED += ("scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
IGNORED = ("logit_scale", "logit_bias", "*attn_mask")


def settings(weights: Weights, part: str) -> dict[str, Any]:
    """The part's section with open_clip's defaults; InputError for a model that we do not have."""
    config = weights.config.get("model_cfg", weights.config)
    key = {"image": "vision_cfg", "text": "text_cfg"}[part]
    found = {**DEFAULTS[part], **(config.get(key) or {}), "quick_gelu": config.get("quick_gelu", False)}
    place = f"{weights.folder}/{weights.config_name}: {key}"
    for name in _REFUSED:
        if found.get(name) not in _NONE:
            raise InputError(f"{place}.{name}={found[name]!r} is not supported: open_clip's own towers are")
    if not isinstance(found["layers"], int):
        raise InputError(f"{place}.layers={found['layers']!r}: a ResNet is not supported, a ViT is")
    pools = ("tok",) if part == "image" else ("argmax", "eos", "last")
    if found["pool_type"] not in pools:
        raise InputError(f"{place}.pool_type={found['pool_type']!r} is not one of {', '.join(pools)}")
    if part == "text" and found["no_causal_mask"] and found["pool_type"] != "last":
        raise InputError(f"{place}.pool_type={found['pool_type']!r} without a causal mask is not supported")
    return found


def tower(weights: Weights, found: dict[str, Any]) -> dict[str, Any]:
    """The fields that images and text share."""
    approximate = (found.get("act_kwargs") or {}).get("approximate", "none")
    activation = "quick_gelu" if found["quick_gelu"] else "gelu_tanh" if approximate == "tanh" else "gelu"
    scale = found["ls_init_value"]
    return dict(
        width=found["width"],
        depth=found["layers"],
        heads=found.get("heads") or found["width"] // found["head_width"],
        mlp=int(found["width"] * found["mlp_ratio"]),
        activation=activation,
        epsilon=float((found.get("norm_kwargs") or {}).get("eps", 1e-5)),
        layer_scale=None if scale is None else float(scale),
    )


def architecture(weights: Weights, part: str) -> dict[str, Any]:
    found = settings(weights, part)
    if part == "image":
        pixels = weights.config.get("preprocess_cfg") or {}
        return dict(
            kind="vision_transformer",
            **tower(weights, found),
            patch=found["patch_size"],
            patch_bias=False,
            pooling="cls",
            first_norm=not found["no_ln_pre"],
            mean=tuple(pixels.get("mean", clip.MEAN)),
            std=tuple(pixels.get("std", clip.STD)),
        )
    last = found["pool_type"] == "last"
    highest = found["vocab_size"] - 1  # argmax pools the highest id of a text
    return dict(
        kind="text_transformer",
        **tower(weights, found),
        vocabulary=found["vocab_size"],
        length=found["context_length"],
        causal=not found["no_causal_mask"],
        pooling="last",
        padding=None if last else 0,
        end=None if last else found["eos_id"] if found["pool_type"] == "eos" else highest,
    )


def example(weights: Weights, part: str) -> jax.ShapeDtypeStruct:
    found = settings(weights, part)
    if part == "text":
        return jax.ShapeDtypeStruct((1, found["context_length"]), jnp.int32)
    size = found["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    return jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)


def prefix(weights: Weights, part: str) -> str:
    """What their names begin with; a text tower is at the top unless it was told to stand apart."""
    if part == "image":
        return "visual."
    return "text." if "text.positional_embedding" in weights else ""


def table(weights: Weights, part: str, encoder: Any) -> Table:
    place = prefix(weights, part)
    if part == "image":
        texts = ("text.*", "transformer.*", "token_embedding.*", "positional_embedding", "ln_final.*")
        return Table(tuple(image_rows(place, encoder)), (*IGNORED, *texts, "text_projection*", "visual.proj"))
    return Table(tuple(text_rows(place, encoder)), (*IGNORED, "visual.*", f"{place}text_projection*"))


def head(weights: Weights, part: str) -> Table | None:
    place = prefix(weights, part)
    if part == "image":
        return Table((one("kernel", f"{place}proj"),))
    return Table(tuple(text_head_rows(place, f"{place}text_projection.bias" in weights)))


def text_head_rows(place: str, bias: bool) -> list[Row]:
    name = f"{place}text_projection"
    if not bias:
        return [one("kernel", name)]
    return [one("kernel", f"{name}.weight", TRANSPOSED), one("bias", f"{name}.bias")]


def block_rows(place: str, encoder: Any) -> list[Row]:
    layer, heads = f"{place}transformer.resblocks.{LAYER}", encoder.dimensions.heads
    scales = [
        one(f"{BLOCKS}/attention_scale", f"{layer}.ls_1.gamma"),
        one(f"{BLOCKS}/mlp_scale", f"{layer}.ls_2.gamma"),
    ]
    return [
        *norm(f"{BLOCKS}/attention_norm", f"{layer}.ln_1"),
        one(f"{BLOCKS}/attention/qkv/kernel", f"{layer}.attn.in_proj_weight", fused(heads)),
        one(f"{BLOCKS}/attention/qkv/bias", f"{layer}.attn.in_proj_bias", fused(heads)),
        *attention_out(f"{BLOCKS}/attention/out", f"{layer}.attn.out_proj", heads),
        *norm(f"{BLOCKS}/mlp_norm", f"{layer}.ln_2"),
        *dense(f"{BLOCKS}/mlp/in", f"{layer}.mlp.c_fc"),
        *dense(f"{BLOCKS}/mlp/out", f"{layer}.mlp.c_proj"),
        *([] if encoder.layer_scale is None else scales),
    ]


def image_rows(place: str, encoder: Any) -> list[Row]:
    return [
        one("patches/kernel", f"{place}conv1.weight", patches(encoder.patch)),
        one("transformer/class_token", f"{place}class_embedding"),
        one("transformer/position", f"{place}positional_embedding"),
        *(norm("transformer/first_norm", f"{place}ln_pre") if encoder.first_norm else []),
        *block_rows(place, encoder),
        *norm("transformer/norm", f"{place}ln_post"),
    ]


def text_rows(place: str, encoder: Any) -> list[Row]:
    return [
        one("words/embedding", f"{place}token_embedding.weight"),
        one("transformer/position", f"{place}positional_embedding"),
        *block_rows(place, encoder),
        *norm("transformer/norm", f"{place}ln_final"),
    ]
