"""Weights in and out: Hugging Face, open_clip, sentence-transformers, safetensors.

Each family of models has a file with four functions of the weights (`reading.Weights`) and the part,
`image` or `text`:

    architecture(weights, part) -> dict       an encoder's config section
    table(weights, part, encoder) -> Table    its names (`names.Table`)
    head(weights, part) -> Table | None       those of its projection, to `kernel` and maybe `bias`
    example(weights, part) -> ShapeDtypeStruct    what such an encoder takes, a batch of one
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax.encoders import KINDS
from contrastive_jax.errors import InputError
from contrastive_jax.interop import names
from contrastive_jax.interop.model import Model, Vocabulary
from contrastive_jax.interop.positions import resized
from contrastive_jax.interop.reading import Weights, read
from contrastive_jax.interop.writing import FORMATS, save

if TYPE_CHECKING:
    from jaxtyping import Float, PyTree

__all__ = [
    "FAMILIES",
    "FORMATS",
    "Model",
    "Vocabulary",
    "Weights",
    "architecture",
    "head",
    "load",
    "read",
    "save",
    "scale",
]

PARTS = ("image", "text")
# The file of this folder that knows a `model_type`.
FAMILIES = {
    "clip": "clip",
    "clip_vision_model": "clip",
    "clip_text_model": "clip",
    "siglip": "siglip",
    "siglip_vision_model": "siglip",
    "siglip_text_model": "siglip",
    "vit": "vit",
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "bert": "bert",
    "roberta": "bert",
    "xlm-roberta": "bert",
    "mpnet": "bert",
    "modernbert": "modernbert",
}
# Fields that change what an encoder computes, but no shape.
_SILENT = (
    *("activation", "epsilon", "heads", "causal", "pooling", "padding", "end"),
    *("offset", "window", "every", "theta", "local_theta"),
)


def architecture(path: str | Path | Weights, part: str) -> dict[str, Any]:
    """The config section of an encoder, {"kind": ..., its fields}, for weights and a part of them.

    path: a folder or a hub name; part: `image` or `text`.

    Raises InputError for weights that cannot be read, of an unknown family, or without this part.
    """
    weights, family = _opened(path, part)
    return _said(weights, family.architecture, part)


def load(
    path: str | Path | Weights, part: str, encoder: Any, example: jax.ShapeDtypeStruct | None = None
) -> PyTree[Float[np.ndarray, "..."]]:
    """The parameters of `encoder`, float32, from weights of exactly its architecture.

    example: what the encoder will be given, [B, ...]; a picture of another size than the weights were
        made for has its position table interpolated (`positions.resized`). None: the weights' own.

    Raises:
        InputError: the weights cannot be read, or are of another architecture: each tensor that is
            missing, left over or of another shape by name, or each field of the encoder that differs.
    """
    weights, family = _opened(path, part)
    _check_fields(weights, _said(weights, family.architecture, part), encoder)
    example = _said(weights, family.example, part) if example is None else example
    wanted = names.flatten(jax.eval_shape(encoder.init, jax.random.key(0), example))
    shapes = {name: tuple(leaf.shape) for name, leaf in wanted.items()}
    table = family.table(weights, part, encoder)
    if part == "image":
        weights = resized(weights, table, encoder, example)
    return names.unflatten(names.load(table, weights, shapes))


def head(path: str | Path | Weights, part: str) -> dict[str, Float[np.ndarray, "..."]] | None:
    """The projection after the encoder, {"kernel": [in, out]} and maybe "bias"; None if there is none.

    Raises InputError for weights that cannot be read, or of an unknown family.
    """
    weights, family = _opened(path, part)
    table = family.head(weights, part)
    if table is None:
        return None
    if table.folder is not None:
        weights = read(table.folder)
    missing = [name for row in table.rows for name in row.theirs if name not in weights]
    if missing and table.folder is None:
        return None
    if missing:
        raise InputError(f"{weights.folder}: {names.some(missing)} missing in its weights")
    loaded = [row.transform.load(*(weights[name] for name in row.theirs)) for row in table.rows]
    return {path: array for row, arrays in zip(table.rows, loaded) for path, array in zip(row.ours, arrays)}


def scale(path: str | Path | Weights) -> dict[str, float]:
    """The factor of the cosines, "scale", and what is added to them, "bias", where the weights have them."""
    weights = path if isinstance(path, Weights) else read(path)
    stored = {"scale": "logit_scale", "bias": "logit_bias"}
    there = {key: name for key, name in stored.items() if name in weights}
    for name in there.values():
        if math.prod(weights.shape(name)) != 1:
            raise InputError(f"{weights.folder}: {name} {list(weights.shape(name))} is no single number")
    found = {key: float(weights[name].reshape(())) for key, name in there.items()}
    return found | ({"scale": math.exp(found["scale"])} if "scale" in found else {})


def _opened(path: str | Path | Weights, part: str) -> tuple[Weights, Any]:
    if part not in PARTS:
        raise InputError(f"part {part!r}: choose one of {', '.join(PARTS)}")
    weights = path if isinstance(path, Weights) else read(path)
    return weights, family_of(weights)


def family_of(weights: Weights) -> Any:
    """The module of this folder that knows the weights' family."""
    if weights.config_name == "open_clip_config.json":
        name = "open_clip"
    else:
        kind = weights.config.get("model_type")
        if not isinstance(kind, str) or kind not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise InputError(f"{weights.folder}/config.json: model_type {kind!r} is not one of {known}")
        name = FAMILIES[kind]
    return importlib.import_module(f"contrastive_jax.interop.{name}")


def _said(weights: Weights, ask: Callable[[Weights, str], Any], part: str) -> Any:
    """What a family makes of a config; InputError where its values are not what the family has."""
    try:
        return ask(weights, part)
    except InputError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        name = f"{weights.folder}/{weights.config_name}"
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{name}: not as a {part} model of its kind has it ({reason})") from error


def _check_fields(weights: Weights, section: dict[str, Any], encoder: Any) -> None:
    kind = section["kind"]
    if type(encoder) is not KINDS[kind]:
        found = next((name for name, made in KINDS.items() if made is type(encoder)), type(encoder).__name__)
        raise InputError(f"{weights.folder}: weights of a {kind}, and the encoder here is a {found}")
    own = {key: getattr(encoder, key) for key in _SILENT if key in section}
    own["heads"] = encoder.dimensions.heads  # also where a size says it
    differ = [f"{key}={own[key]!r} (there {section[key]!r})" for key in own if own[key] != section[key]]
    if differ:
        raise InputError(f"{weights.folder}: weights of another architecture: {', '.join(differ)}")
