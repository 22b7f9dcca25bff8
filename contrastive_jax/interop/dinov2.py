"""DINOv2 as transformers has it (Oquab et al. 2023), with or without registers."""

from __future__ import annotations

from typing import Any

import jax

from contrastive_jax.interop import clip, vit
from contrastive_jax.interop.model import Tower, Wants
from contrastive_jax.interop.names import LAYER, Row, Table
from contrastive_jax.interop.reading import Weights
from contrastive_jax.interop.rows import BLOCKS, dense, gated, norm, one
from contrastive_jax.interop.transforms import squeezed

DEFAULTS: dict[str, dict[str, Any]] = {
    "image": {
        **vit.DEFAULTS["image"],
        "patch_size": 14,
        "layer_norm_eps": 1e-6,
        "mlp_ratio": 4,
        "layerscale_value": 1.0,
        "use_swiglu_ffn": False,
        "num_register_tokens": 4,
    }
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IGNORED = ("*mask_token", "classifier.*")


def settings(weights: Weights, part: str) -> dict[str, Any]:
    found = vit.settings(weights, part, DEFAULTS)
    found["intermediate_size"] = _hidden(found["hidden_size"], found["mlp_ratio"], found["use_swiglu_ffn"])
    return found


def _hidden(width: int, ratio: float, swiglu: bool) -> int:
    """The width of the MLP; a gated one has two thirds, to the next multiple of 8."""
    hidden = int(width * ratio)
    return (hidden * 2 // 3 + 7) // 8 * 8 if swiglu else hidden


def architecture(weights: Weights, part: str) -> dict[str, Any]:
    found = settings(weights, part)
    section = dict(
        kind="vision_transformer",
        **clip.tower(weights, found),
        patch=found["patch_size"],
        pooling="cls",
        layer_scale=float(found["layerscale_value"]),
        registers=found["num_register_tokens"] if "registers" in found["model_type"] else 0,
        **clip.normalization(weights, MEAN, STD),
    )
    return {**section, "activation": "swiglu"} if found["use_swiglu_ffn"] else section


def want_image(wants: Wants, tower: Tower) -> None:
    """Notes what a Dinov2Model cannot be."""
    encoder, where = tower.encoder, f"encoders.{tower.name}"
    wants.equal(f"{where}.pooling", encoder.pooling, "cls")
    wants.equal(f"{where}.first_norm", encoder.first_norm, False)
    wants.equal(f"{where}.activation", encoder.activation, (*clip.THEIRS, "swiglu"))
    if encoder.layer_scale is None:
        wants.found.append(f"config.{where}.layer_scale=None (it wants a number)")
    found, gated = encoder.dimensions, encoder.activation == "swiglu"
    nearest = _hidden(found.width, _ratio(encoder), gated)
    if nearest != found.mlp:
        wants.found.append(f"config.{where}.mlp={found.mlp} (it wants {nearest}, or of another whole ratio)")


def _ratio(encoder: Any) -> int:
    """The whole number that a config gives for the width of the MLP."""
    found = encoder.dimensions
    return max(round(found.mlp * (1.5 if encoder.activation == "swiglu" else 1) / found.width), 1)


def config(encoder: Any, side: int) -> dict[str, Any]:
    """The config of an encoder of pictures of `side` pixels."""
    found = clip.image_config(encoder, side)
    registers = dict(num_register_tokens=encoder.registers) if encoder.registers else {}
    return dict(
        found,
        **registers,
        model_type="dinov2_with_registers" if registers else "dinov2",
        architectures=["Dinov2WithRegistersModel" if registers else "Dinov2Model"],
        hidden_act=found["hidden_act"] or "gelu",
        mlp_ratio=_ratio(encoder),
        layerscale_value=encoder.layer_scale,
        use_swiglu_ffn=encoder.activation == "swiglu",
        qkv_bias=True,
    )


def example(weights: Weights, part: str) -> jax.ShapeDtypeStruct:
    return clip.example_of(settings(weights, part))


def table(weights: Weights, part: str, encoder: Any) -> Table:
    return Table(tuple(image_rows(vit.prefix(weights), encoder)), IGNORED)


def head(weights: Weights, part: str) -> Table | None:
    return None


def image_rows(prefix: str, encoder: Any) -> list[Row]:
    layer = f"{prefix}encoder.layer.{LAYER}"
    swiglu = encoder.activation == "swiglu"
    into, out = ("weights_in", "weights_out") if swiglu else ("fc1", "fc2")
    registers = one("transformer/registers", f"{prefix}embeddings.register_tokens", squeezed(1))
    return [
        *vit.embedding_rows(prefix, encoder),
        *([registers] if encoder.registers else []),
        *norm(f"{BLOCKS}/attention_norm", f"{layer}.norm1"),
        *vit.attention_rows(layer, encoder.dimensions.heads),
        one(f"{BLOCKS}/attention_scale", f"{layer}.layer_scale1.lambda1"),
        *norm(f"{BLOCKS}/mlp_norm", f"{layer}.norm2"),
        *(gated if swiglu else dense)(f"{BLOCKS}/mlp/in", f"{layer}.mlp.{into}"),
        *dense(f"{BLOCKS}/mlp/out", f"{layer}.mlp.{out}"),
        one(f"{BLOCKS}/mlp_scale", f"{layer}.layer_scale2.lambda1"),
        *norm("transformer/norm", f"{prefix}layernorm"),
    ]
