"""ModernBERT of `transformers`, with its names of tensors and config keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax.errors import InputError
from contrastive_jax.interop import sentence_transformers
from contrastive_jax.interop.bert import ACTIVATIONS, activation, before, only_text, refuse
from contrastive_jax.interop.model import Wants
from contrastive_jax.interop.names import LAYER, Row, Table
from contrastive_jax.interop.rows import one
from contrastive_jax.interop.transforms import GATED, TRANSPOSED, fused, heads_out

if TYPE_CHECKING:
    from contrastive_jax.encoders.modernbert import ModernBert
    from contrastive_jax.interop.reading import Weights

_WORDS = "embeddings.tok_embeddings.weight"
_HEADS = ("head.*", "decoder.*", "classifier.*")
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
DEFAULTS = {
    "vocab_size": 50368,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_hidden_layers": 22,
    "num_attention_heads": 12,
    "hidden_activation": "gelu",
    "max_position_embeddings": 8192,
    "norm_eps": 1e-5,
    "pad_token_id": 50283,
    "local_attention": 128,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160_000.0,
    "local_rope_theta": 10_000.0,
}


def architecture(weights: Weights, part: str) -> dict[str, Any]:
    """The config section of the encoder; with `pooling` where a sentence-transformers folder says it.

    Raises InputError for the part `image`, or for a variant that is not here.
    """
    only_text(weights, part)
    config, where = DEFAULTS | weights.config, f"{weights.folder}/config.json"
    for key in ("norm_bias", "attention_bias", "mlp_bias"):
        refuse(where, config, key, False)
    theta, local_theta = _thetas(where, config)
    return {
        "kind": "modernbert",
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp": config["intermediate_size"],
        "vocabulary": config["vocab_size"],
        "length": config["max_position_embeddings"],
        "padding": config["pad_token_id"],
        "activation": activation(where, config["hidden_activation"]),
        "epsilon": config["norm_eps"],
        "window": config["local_attention"],
        "every": _every(where, config),
        "theta": theta,
        "local_theta": local_theta,
        **sentence_transformers.fields(weights),
    }


def table(weights: Weights, part: str, encoder: ModernBert) -> Table:
    """The names in a file, also of a model with a task's head around the encoder."""
    only_text(weights, part)
    return Table(tuple(rows(encoder, before(weights, _WORDS))), _HEADS)


def head(weights: Weights, part: str) -> Table | None:
    """The Dense module of a sentence-transformers folder."""
    return sentence_transformers.dense(weights)


def example(weights: Weights, part: str) -> jax.ShapeDtypeStruct:
    """Token ids [1, length]."""
    return jax.ShapeDtypeStruct((1, architecture(weights, part)["length"]), np.int32)


def rows(encoder: ModernBert, prefix: str = "") -> list[Row]:
    """The names of one encoder; prefix: what stands before all of theirs."""
    heads, layer = encoder.dimensions.heads, f"{prefix}layers.{LAYER}"
    return [
        one("words/embedding", f"{prefix}{_WORDS}"),
        one("embedding_norm/scale", f"{prefix}embeddings.norm.weight"),
        # Theirs has none in the first layer, ours has one there that nothing reads.
        Row(("blocks/attention_norm/scale",), (f"{layer}.attn_norm.weight",), first=1, fill=1.0),
        one("blocks/attention/qkv/kernel", f"{layer}.attn.Wqkv.weight", fused(heads)),
        one("blocks/attention/out/kernel", f"{layer}.attn.Wo.weight", heads_out(heads)),
        one("blocks/mlp_norm/scale", f"{layer}.mlp_norm.weight"),
        one("blocks/mlp/in/kernel", f"{layer}.mlp.Wi.weight", GATED),
        one("blocks/mlp/out/kernel", f"{layer}.mlp.Wo.weight", TRANSPOSED),
        one("norm/scale", f"{prefix}final_norm.weight"),
    ]


def config(encoder: ModernBert, wants: Wants, where: str) -> dict[str, Any]:
    """The `config.json` of a ModernBertModel, as its versions before and after 5 read it."""
    d = encoder.dimensions
    return {
        "architectures": ["ModernBertModel"],
        "model_type": "modernbert",
        "vocab_size": encoder.vocabulary,
        "hidden_size": d.width,
        "num_hidden_layers": d.depth,
        "num_attention_heads": d.heads,
        "intermediate_size": d.mlp,
        "hidden_activation": next(name for name, own in ACTIVATIONS.items() if own == encoder.activation),
        "max_position_embeddings": encoder.length,
        "norm_eps": encoder.epsilon,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "embedding_dropout": encoder.dropout,
        "mlp_dropout": 0.0,
        "local_attention": encoder.window,
        "global_attn_every_n_layers": encoder.every,
        "layer_types": [_LOCAL if i % encoder.every else _GLOBAL for i in range(d.depth)],
        "global_rope_theta": encoder.theta,
        "local_rope_theta": encoder.local_theta,
        "rope_parameters": {
            _GLOBAL: {"rope_type": "default", "rope_theta": encoder.theta},
            _LOCAL: {"rope_type": "default", "rope_theta": encoder.local_theta},
        },
        "pad_token_id": encoder.padding,
    }


def _every(where: str, config: dict[str, Any]) -> int:
    """Of so many layers one is global."""
    kinds = config.get("layer_types")
    if kinds is None:
        return config["global_attn_every_n_layers"]
    whole = [i for i, kind in enumerate(kinds) if kind == _GLOBAL]
    every = whole[1] if len(whole) > 1 else len(kinds)
    if whole != list(range(0, len(kinds), every)) or len(kinds) != config["num_hidden_layers"]:
        raise InputError(f"{where}: layer_types: global attention in layers {whole} is not every n-th from 0")
    return every


def _thetas(where: str, config: dict[str, Any]) -> tuple[float, float]:
    """Bases of the rotations in global and in local layers."""
    named = config.get("rope_parameters") or {}
    given = []
    for kind, key in ((_GLOBAL, "global_rope_theta"), (_LOCAL, "local_rope_theta")):
        rotation = named.get(kind) or {}
        refuse(f"{where}: rope_parameters.{kind}", rotation, "rope_type", "default")
        given.append(rotation.get("rope_theta", config[key]))
    refuse(where, config, "rope_scaling", None)
    theta, local_theta = given
    return float(theta), float(theta if local_theta is None else local_theta)
