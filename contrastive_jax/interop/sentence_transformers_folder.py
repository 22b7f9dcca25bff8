"""A text model as a folder of sentence-transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_jax.encoders.heads import Linear
from contrastive_jax.errors import InputError
from contrastive_jax.interop import names, text_folder
from contrastive_jax.interop.model import Model, Tower, Wants
from contrastive_jax.interop.sentence_transformers import IDENTITY, MODULES, POOLINGS, dense_rows
from contrastive_jax.interop.text_folder import write_json, write_tensors


def writer(model: Model) -> Callable[[Path], dict[str, Any]]:
    """Writes the text encoder, its pooling, its projection and its normalisation.

    Raises InputError for a model without one text encoder, of a kind that `transformers` lacks, or with
    heads other than one matrix.
    """
    tower, wants = model.tower("text"), Wants("sentence-transformers")
    if tower is None:
        raise InputError("sentence-transformers holds a text encoder, and this model has none")
    settings, where = text_folder.config(tower, wants), f"branches.{tower.branch}"
    if len(tower.heads) > 1 or any(type(head) is not Linear for _, head, _ in tower.heads):
        wants.equal(f"{where}.heads", tuple(name for name, _, _ in tower.heads), ("none", "one linear"))
    wants.equal(f"encoders.{tower.name}.pooling", tower.encoder.pooling, tuple(POOLINGS))
    wants.check()
    if model.vocabulary is None:
        raise InputError(
            "sentence-transformers needs a tokenizer of the tokenizers library, and there is none"
        )
    return functools.partial(_write, model, tower, settings)


def _write(model: Model, tower: Tower, settings: dict[str, Any], output: Path) -> dict[str, Any]:
    text_folder.save(tower, settings, model.vocabulary, output)
    folders = ["", "1_Pooling"]
    _save_pooling(tower.encoder, output / "1_Pooling")
    for _, _, params in tower.heads:
        folders.append(f"{len(folders)}_Dense")
        _save_dense(params["out"], output / folders[-1])
    if model.branches[tower.branch].normalize:
        folders.append(f"{len(folders)}_Normalize")
        (output / folders[-1]).mkdir()
    _save_modules(folders, model.vocabulary.length, output)
    return {"encoder": tower.name, "branch": tower.branch}


def _save_modules(folders: list[str], length: int, output: Path) -> None:
    kinds = [folder.partition("_")[2] or "Transformer" for folder in folders]
    listed = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (folder, kind) in enumerate(zip(folders, kinds))
    ]
    write_json(output / MODULES, listed)
    write_json(output / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    write_json(
        output / "config_sentence_transformers.json",
        {"__version__": {}, "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def _save_pooling(encoder: Any, folder: Path) -> None:
    folder.mkdir()
    flags = {flag: encoder.pooling == mode for mode, flag in POOLINGS.items()}
    others = {"pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}
    width = encoder.dimensions.width
    write_json(folder / "config.json", {"word_embedding_dimension": width, **flags, **others})


def _save_dense(params: dict[str, Any], folder: Path) -> None:
    folder.mkdir()
    kernel = np.asarray(params["kernel"], np.float32)
    settings = {"in_features": kernel.shape[0], "out_features": kernel.shape[1], "bias": "bias" in params}
    write_json(folder / "config.json", {**settings, "activation_function": IDENTITY})
    write_tensors(folder / "model.safetensors", names.save(dense_rows("bias" in params), params))
