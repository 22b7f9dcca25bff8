"""SigLIP as transformers has it (Zhai et al. 2023), and SigLIP 2 where its pictures have one size."""

from __future__ import annotations

from typing import Any

import jax

from contrastive_jax.errors import InputError
from contrastive_jax.interop import clip
from contrastive_jax.interop.model import Tower, Wants
from contrastive_jax.interop.names import Row, Table
from contrastive_jax.interop.reading import Weights
from contrastive_jax.interop.rows import attention_out, dense, norm, one
from contrastive_jax.interop.transforms import patches, query_apart, squeezed

DEFAULTS: dict[str, dict[str, Any]] = {
    "image": {
        **clip.DEFAULTS["image"],
        "patch_size": 16,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "vision_use_head": True,
    },
    "text": {
        **clip.DEFAULTS["text"],
        "vocab_size": 32000,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "max_position_embeddings": 64,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
}
MEAN = STD = (0.5, 0.5, 0.5)


def architecture(weights: Weights, part: str) -> dict[str, Any]:
    found = clip.settings(weights, part, DEFAULTS)
    if part == "image":
        if not found["vision_use_head"]:
            raise InputError(f"{weights.folder}: a SigLIP without its pooling head embeds no picture")
        return dict(
            kind="vision_transformer",
            **clip.tower(weights, found),
            patch=found["patch_size"],
            pooling="map",
            **clip.normalization(weights, MEAN, STD),
        )
    return dict(
        kind="text_transformer",
        **clip.tower(weights, found),
        vocabulary=found["vocab_size"],
        length=found["max_position_embeddings"],
        pooling="last",
        padding=None,  # it sees its padding, and pools the last of it
    )


def want_image(wants: Wants, tower: Tower) -> None:
    """Notes what a SigLIP's image encoder cannot be."""
    clip.want_fields(wants, tower, pooling="map", first_norm=False, layer_scale=None, registers=0)


def want_text(wants: Wants, tower: Tower) -> None:
    """Notes what a SigLIP's text encoder cannot be."""
    fields = dict(causal=False, pooling="last", first_norm=False, layer_scale=None, padding=None, end=None)
    clip.want_fields(wants, tower, **fields)


def example(weights: Weights, part: str) -> jax.ShapeDtypeStruct:
    return clip.example_of(clip.settings(weights, part, DEFAULTS))


def table(weights: Weights, part: str, encoder: Any) -> Table:
    make = image_rows if part == "image" else text_rows
    prefix = clip.prefix(weights, part)
    head = (f"{prefix}head.*",) if part == "text" else ()
    return Table(tuple(make(prefix, encoder)), clip.IGNORED + clip.OTHER[part] + head)


def head(weights: Weights, part: str) -> Table | None:
    return Table(tuple(head_rows(clip.prefix(weights, part)))) if part == "text" else None


def head_rows(prefix: str) -> list[Row]:
    kernel, bias = dense("head", f"{prefix}head")
    return [kernel._replace(ours=("kernel",)), bias._replace(ours=("bias",))]


def image_rows(prefix: str, encoder: Any) -> list[Row]:
    heads = encoder.dimensions.heads
    return [
        one("patches/kernel", f"{prefix}embeddings.patch_embedding.weight", patches(encoder.patch)),
        one("patches/bias", f"{prefix}embeddings.patch_embedding.bias"),
        one("transformer/position", f"{prefix}embeddings.position_embedding.weight"),
        *clip.block_rows(prefix, heads),
        *norm("transformer/norm", f"{prefix}post_layernorm"),
        *pooling_rows(f"{prefix}head", heads),
    ]


def pooling_rows(theirs: str, heads: int) -> list[Row]:
    """The learned query that attends to the tokens, and the MLP after it."""
    ours = "transformer/pooling"
    both = [(f"{ours}/q/{kind}", f"{ours}/kv/{kind}") for kind in ("kernel", "bias")]
    return [
        one(f"{ours}/query", f"{theirs}.probe", squeezed(2)),
        Row(both[0], (f"{theirs}.attention.in_proj_weight",), query_apart(heads)),
        Row(both[1], (f"{theirs}.attention.in_proj_bias",), query_apart(heads)),
        *attention_out(f"{ours}/out", f"{theirs}.attention.out_proj", heads),
        *norm(f"{ours}/norm", f"{theirs}.layernorm"),
        *dense(f"{ours}/mlp/in", f"{theirs}.mlp.fc1"),
        *dense(f"{ours}/mlp/out", f"{theirs}.mlp.fc2"),
    ]


def text_rows(prefix: str, encoder: Any) -> list[Row]:
    return clip.text_rows(prefix, encoder)
