"""CLIP as transformers has it (Radford et al. 2021): CLIPModel, and either of its towers alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.interop.model import Tower, Wants
from contrastive_jax.interop.names import LAYER, Row, Table
from contrastive_jax.interop.reading import Weights
from contrastive_jax.interop.rows import BLOCKS, attention, dense, norm, one
from contrastive_jax.interop.transforms import TRANSPOSED, patches

DEFAULTS: dict[str, dict[str, Any]] = {
    "image": dict(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_channels=3,
        image_size=224,
        patch_size=32,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
    ),
    "text": dict(
        vocab_size=49408,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        eos_token_id=49407,
    ),
}
ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}
THEIRS = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IGNORED = ("*position_ids", "logit_scale", "logit_bias")
OTHER = {"image": ("text_model.*", "*_projection.weight"), "text": ("vision_model.*", "*_projection.weight")}


def settings(weights: Weights, part: str, defaults: dict[str, dict[str, Any]] = DEFAULTS) -> dict[str, Any]:
    """The part's own section of the config, with the library's defaults for what it leaves out.

    Raises InputError if the weights are of the other part alone.
    """
    kind = weights.config["model_type"]
    alone = {"vision_model": "image", "text_model": "text"}.get(kind.partition("_")[2])
    if alone not in (None, part):
        raise InputError(f"{weights.folder}: a {kind} has no {part} encoder")
    key = {"image": "vision_config", "text": "text_config"}[part]
    given = weights.config if alone else weights.config.get(key) or {}
    # Says the same in old files, where it is.
    older = {} if alone else weights.config.get(f"{key}_dict") or {}
    return {**defaults[part], **given, **{k: v for k, v in older.items() if v is not None}}


def normalization(weights: Weights, mean: tuple, std: tuple) -> dict[str, tuple[float, ...]]:
    """The mean and deviation of `preprocessor_config.json`, or, as version 5 of transformers writes those of
    pairs, of `processor_config.json`; else these."""
    whole = weights.json("processor_config.json") or {}
    found = weights.json("preprocessor_config.json") or whole.get("image_processor") or {}
    return {"mean": tuple(found.get("image_mean") or mean), "std": tuple(found.get("image_std") or std)}


def activation(weights: Weights, name: str) -> str:
    """Our name of an activation of theirs; InputError for one that we do not have."""
    if name not in ACTIVATIONS:
        raise InputError(f"{weights.folder}: hidden_act {name!r} is not one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def tower(weights: Weights, found: dict[str, Any]) -> dict[str, Any]:
    """The fields that images and text share."""
    return dict(
        width=found["hidden_size"],
        depth=found["num_hidden_layers"],
        heads=found["num_attention_heads"],
        mlp=found["intermediate_size"],
        activation=activation(weights, found["hidden_act"]),
        epsilon=float(found["layer_norm_eps"]),
    )


def architecture(weights: Weights, part: str) -> dict[str, Any]:
    found = settings(weights, part)
    if part == "image":
        return dict(
            kind="vision_transformer",
            **tower(weights, found),
            patch=found["patch_size"],
            patch_bias=False,
            pooling="cls",
            first_norm=True,
            **normalization(weights, MEAN, STD),
        )
    # Files of before 2023 say 2 for the end, and pool the highest id, which is the vocabulary's last.
    end = found["eos_token_id"]
    return dict(
        kind="text_transformer",
        **tower(weights, found),
        vocabulary=found["vocab_size"],
        length=found["max_position_embeddings"],
        causal=True,
        pooling="last",
        end=found["vocab_size"] - 1 if end == 2 else end,
    )


def tower_config(encoder: Any) -> dict[str, Any]:
    """What a config says of an encoder, whether of images or text; the way back from `tower`."""
    found = encoder.dimensions
    return dict(
        hidden_size=found.width,
        intermediate_size=found.mlp,
        num_hidden_layers=found.depth,
        num_attention_heads=found.heads,
        hidden_act=THEIRS.get(encoder.activation),
        layer_norm_eps=encoder.epsilon,
    )


def image_config(encoder: Any, side: int) -> dict[str, Any]:
    """What a config says of an encoder of pictures of `side` pixels in three colours."""
    return dict(tower_config(encoder), image_size=side, patch_size=encoder.patch, num_channels=3)


def text_config(encoder: Any) -> dict[str, Any]:
    """What a config says of a text encoder."""
    lengths = dict(vocab_size=encoder.vocabulary, max_position_embeddings=encoder.length)
    return dict(tower_config(encoder), **lengths)


def want_image(wants: Wants, tower: Tower) -> None:
    """Notes what a CLIP's image encoder cannot be."""
    want_fields(wants, tower, pooling="cls", first_norm=True, layer_scale=None, registers=0)


def want_text(wants: Wants, tower: Tower) -> None:
    """Notes what a CLIP's text encoder cannot be; 2 ends no text, for that is how old configs are told."""
    want_fields(wants, tower, causal=True, pooling="last", first_norm=False, layer_scale=None)
    if tower.encoder.end in (None, 2):
        ends = "the id that ends every text, other than 2"
        wants.found.append(f"config.encoders.{tower.name}.end={tower.encoder.end} (it wants {ends})")


def want_fields(wants: Wants, tower: Tower, **fields: Any) -> None:
    """Notes the fields of an encoder that differ from these; and an activation that is not by element."""
    for key, value in {**fields, "activation": tuple(THEIRS)}.items():
        wants.equal(f"encoders.{tower.name}.{key}", getattr(tower.encoder, key), value)


def example(weights: Weights, part: str) -> jax.ShapeDtypeStruct:
    return example_of(settings(weights, part))


def example_of(found: dict[str, Any]) -> jax.ShapeDtypeStruct:
    """What an encoder of these settings takes, a batch of one."""
    if "max_position_embeddings" in found:
        return jax.ShapeDtypeStruct((1, found["max_position_embeddings"]), jnp.int32)
    side = found["image_size"]
    height, width = (side, side) if isinstance(side, int) else side
    return jax.ShapeDtypeStruct((1, height, width, found["num_channels"]), jnp.float32)


def prefix(weights: Weights, part: str) -> str:
    """What their names begin with: nothing where the tower is alone, in some versions."""
    start = {"image": "vision_model.", "text": "text_model."}[part]
    return start if any(name.startswith(start) for name in weights.names) else ""


def table(weights: Weights, part: str, encoder: Any) -> Table:
    make = image_rows if part == "image" else text_rows
    return Table(tuple(make(prefix(weights, part), encoder)), IGNORED + OTHER[part])


def head(weights: Weights, part: str) -> Table | None:
    return Table((head_row(part),))


def head_row(part: str) -> Row:
    return one("kernel", f"{'visual' if part == 'image' else 'text'}_projection.weight", TRANSPOSED)


def block_rows(prefix: str, heads: int) -> list[Row]:
    """The blocks, whose names CLIP and SigLIP share."""
    layer = f"{prefix}encoder.layers.{LAYER}"
    each = [f"{layer}.self_attn.{name}_proj" for name in "qkv"]
    return [
        *norm(f"{BLOCKS}/attention_norm", f"{layer}.layer_norm1"),
        *attention(f"{BLOCKS}/attention", each, f"{layer}.self_attn.out_proj", heads),
        *norm(f"{BLOCKS}/mlp_norm", f"{layer}.layer_norm2"),
        *dense(f"{BLOCKS}/mlp/in", f"{layer}.mlp.fc1"),
        *dense(f"{BLOCKS}/mlp/out", f"{layer}.mlp.fc2"),
    ]


def image_rows(prefix: str, encoder: Any) -> list[Row]:
    heads = encoder.dimensions.heads
    return [
        one("patches/kernel", f"{prefix}embeddings.patch_embedding.weight", patches(encoder.patch)),
        one("transformer/class_token", f"{prefix}embeddings.class_embedding"),
        one("transformer/position", f"{prefix}embeddings.position_embedding.weight"),
        *norm("transformer/first_norm", f"{prefix}pre_layrnorm"),
        *block_rows(prefix, heads),
        *norm("transformer/norm", f"{prefix}post_layernorm"),
    ]


def text_rows(prefix: str, encoder: Any) -> list[Row]:
    heads = encoder.dimensions.heads
    return [
        one("words/embedding", f"{prefix}embeddings.token_embedding.weight"),
        one("transformer/position", f"{prefix}embeddings.position_embedding.weight"),
        *block_rows(prefix, heads),
        *norm("transformer/norm", f"{prefix}final_layer_norm"),
    ]
