"""All parameters of a model under our own names, in one safetensors file beside its config."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_jax.interop import names
from contrastive_jax.interop.model import Model
from contrastive_jax.interop.text_folder import write_json, write_tensors


def writer(model: Model) -> Callable[[Path], dict[str, Any]]:
    """Writes `model.safetensors`, a tensor a parameter named by its path, `config.json`, the run's config,
    and the tokenizer. It holds any model."""
    return functools.partial(_write, model)


def _write(model: Model, output: Path) -> dict[str, Any]:
    flat = {name: np.asarray(array, order="C") for name, array in names.flatten(model.params).items()}
    write_tensors(output / "model.safetensors", flat)
    write_json(output / "config.json", {"model_type": "contrastive_jax", **model.card.get("config", {})})
    if model.vocabulary is not None:
        (output / "tokenizer.json").write_text(model.vocabulary.json, encoding="utf-8")
    return {"tensors": len(flat)}
