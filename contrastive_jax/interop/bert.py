"""BERT, RoBERTa, XLM-R and MPNet of `transformers`, with their names of tensors and config keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax.errors import InputError
from contrastive_jax.interop import sentence_transformers
from contrastive_jax.interop.model import Wants
from contrastive_jax.interop.names import LAYER, Row, Table
from contrastive_jax.interop.rows import attention, dense, norm, one

if TYPE_CHECKING:
    from contrastive_jax.encoders.bert import Bert
    from contrastive_jax.interop.reading import Weights

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_WORDS = "embeddings.word_embeddings.weight"
_HEADS = ("*position_ids", "cls.*", "lm_head.*", "classifier.*", "qa_outputs.*")
_BUCKETS = 32  # MPNetModel's own number, whatever its config says
_OFFSET = 2  # likewise
# What a config without these keys means.
_BERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
_LATER = {"vocab_size": 50265, "pad_token_id": 1}
DEFAULTS = {
    "bert": _BERT,
    "roberta": _BERT | _LATER,
    "xlm-roberta": _BERT | _LATER,
    "mpnet": _BERT | _LATER | {"vocab_size": 30527, "type_vocab_size": 0},
}
CLASSES = {"bert": "BertModel", "roberta": "RobertaModel", "mpnet": "MPNetModel"}


def architecture(weights: Weights, part: str) -> dict[str, Any]:
    """The config section of the encoder; with `pooling` where a sentence-transformers folder says it.

    Raises InputError for the part `image`, or for a variant that is not here.
    """
    only_text(weights, part)
    kind = weights.config["model_type"]
    config = DEFAULTS[kind] | {key: value for key, value in weights.config.items() if value is not None}
    where = f"{weights.folder}/config.json"
    refuse(where, config, "position_embedding_type", "absolute")
    refuse(where, config, "is_decoder", False)
    refuse(where, config, "relative_attention_num_buckets", _BUCKETS)
    padding = config["pad_token_id"]
    offset = {"bert": 0, "mpnet": _OFFSET}.get(kind, padding + 1)
    return {
        "kind": "bert",
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp": config["intermediate_size"],
        "vocabulary": config["vocab_size"],
        "length": config["max_position_embeddings"] - offset,
        "padding": padding,
        "activation": activation(where, config["hidden_act"]),
        "epsilon": config["layer_norm_eps"],
        "types": 0 if kind == "mpnet" else config["type_vocab_size"],
        "offset": offset,
        "relative_buckets": _BUCKETS if kind == "mpnet" else 0,
        **sentence_transformers.fields(weights),
    }


def table(weights: Weights, part: str, encoder: Bert) -> Table:
    """The names in a file, also of a model with a task's head around the encoder."""
    only_text(weights, part)
    prefix = before(weights, _WORDS)
    found = rows(encoder, prefix)
    if f"{prefix}embeddings.LayerNorm.gamma" in weights:
        found = [row._replace(theirs=tuple(map(_older, row.theirs))) for row in found]
    pooler = () if encoder.pooling == "pooler" else (f"{prefix}pooler.*",)
    return Table(tuple(found), _HEADS + pooler)


def head(weights: Weights, part: str) -> Table | None:
    """The Dense module of a sentence-transformers folder."""
    return sentence_transformers.dense(weights)


def example(weights: Weights, part: str) -> jax.ShapeDtypeStruct:
    """Token ids [1, length]."""
    return jax.ShapeDtypeStruct((1, architecture(weights, part)["length"]), np.int32)


def rows(encoder: Bert, prefix: str = "") -> list[Row]:
    """The names of one encoder; prefix: what stands before all of theirs."""
    embeddings, layer = f"{prefix}embeddings", f"{prefix}encoder.layer.{LAYER}"
    within = f"{layer}.attention"
    if encoder.relative_buckets:
        each, out, after = [f"{within}.attn.{name}" for name in "qkv"], f"{within}.attn.o", within
    else:
        each = [f"{within}.self.{name}" for name in ("query", "key", "value")]
        out, after = f"{within}.output.dense", f"{within}.output"
    found = [
        one("words/embedding", f"{prefix}{_WORDS}"),
        one("position", f"{embeddings}.position_embeddings.weight"),
        *norm("norm", f"{embeddings}.LayerNorm"),
        *attention("blocks/attention", each, out, encoder.dimensions.heads),
        *norm("blocks/attention_norm", f"{after}.LayerNorm"),
        *dense("blocks/mlp/in", f"{layer}.intermediate.dense"),
        *dense("blocks/mlp/out", f"{layer}.output.dense"),
        *norm("blocks/mlp_norm", f"{layer}.output.LayerNorm"),
    ]
    if encoder.types:
        found.append(one("types", f"{embeddings}.token_type_embeddings.weight"))
    if encoder.relative_buckets:
        found.append(one("relative", f"{prefix}encoder.relative_attention_bias.weight"))
    if encoder.pooling == "pooler":
        found += dense("pooler", f"{prefix}pooler.dense")
    return found


def config(encoder: Bert, wants: Wants, where: str) -> dict[str, Any]:
    """The `config.json` of the class that computes what the encoder does.

    Relative positions make it an MPNetModel, an offset a RobertaModel (XLMRobertaModel is the same one),
    else it is a BertModel. `wants` notes what none of them can, by the config's keys below `where`.
    """
    d = encoder.dimensions
    kind = "mpnet" if encoder.relative_buckets else "roberta" if encoder.offset else "bert"
    if kind == "mpnet":
        wants.equal(f"{where}.relative_buckets", encoder.relative_buckets, _BUCKETS)
        wants.equal(f"{where}.types", encoder.types, 0)
        wants.equal(f"{where}.offset", encoder.offset, _OFFSET)
        wants.equal(f"{where}.padding", encoder.padding, _OFFSET - 1)
    elif kind == "roberta":
        wants.equal(f"{where}.offset", encoder.offset, (0, encoder.padding + 1))
    if kind != "mpnet" and not encoder.types:
        wants.equal(f"{where}.types", 0, (1, 2))
    their_activation = next(name for name, own in ACTIVATIONS.items() if own == encoder.activation)
    return {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "vocab_size": encoder.vocabulary,
        "hidden_size": d.width,
        "num_hidden_layers": d.depth,
        "num_attention_heads": d.heads,
        "intermediate_size": d.mlp,
        "hidden_act": their_activation,
        "hidden_dropout_prob": encoder.dropout,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": encoder.length + encoder.offset,
        **({"relative_attention_num_buckets": _BUCKETS} if kind == "mpnet" else {}),
        **({} if kind == "mpnet" else {"type_vocab_size": encoder.types}),
        "layer_norm_eps": encoder.epsilon,
        "pad_token_id": encoder.padding,
    }


def only_text(weights: Weights, part: str) -> None:
    """Raise an InputError unless the part is `text`."""
    if part != "text":
        kind = weights.config["model_type"]
        raise InputError(f"{weights.folder}: a {kind} has no {part} part; it encodes text")


def before(weights: Weights, name: str) -> str:
    """What stands before a tensor's name, as `bert.` where a task's head is around the encoder."""
    return next((other.removesuffix(name) for other in weights.names if other.endswith(name)), "")


def _older(name: str) -> str:
    """A norm's tensor as the conversion from TensorFlow named it."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def activation(where: str, name: str) -> str:
    """Our name of an activation."""
    if name not in ACTIVATIONS:
        raise InputError(f"{where}: activation {name!r} is not one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def refuse(where: str, config: dict[str, Any], key: str, wanted: Any) -> None:
    """Raise an InputError if a key is there with another value."""
    if config.get(key, wanted) != wanted:
        raise InputError(f"{where}: {key}={config[key]!r} is not supported, only {wanted!r} is")
