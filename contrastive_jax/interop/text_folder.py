"""A text encoder as a folder that `transformers` loads: config, tensors, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.encoders import KINDS, Bert, ModernBert
from contrastive_jax.errors import InputError
from contrastive_jax.interop import bert, modernbert, names
from contrastive_jax.interop.model import Tower, Vocabulary, Wants

if TYPE_CHECKING:
    from jaxtyping import Float

FAMILIES: dict[type, ModuleType] = {Bert: bert, ModernBert: modernbert}


def family(tower: Tower, format: str) -> ModuleType:
    """The file of names for a text encoder; InputError, with the kinds there are, if it has none."""
    if type(tower.encoder) not in FAMILIES:
        kinds = {made: kind for kind, made in KINDS.items()}
        known = " and ".join(kinds[made] for made in FAMILIES)
        raise InputError(
            f"{format} cannot hold this model: config.encoders.{tower.name}.kind="
            f"{kinds.get(type(tower.encoder), '?')!r}; as text encoders it takes the kinds {known} "
            "(formats safetensors and jax take any)"
        )
    return FAMILIES[type(tower.encoder)]


def config(tower: Tower, wants: Wants) -> dict[str, Any]:
    """The encoder's `config.json`; `wants` notes what it cannot say."""
    return family(tower, wants.format).config(tower.encoder, wants, f"encoders.{tower.name}")


def save(tower: Tower, settings: dict[str, Any], vocabulary: Vocabulary | None, output: Path) -> None:
    """Writes what `from_pretrained` reads: the encoder with `settings` as its config, and the tokenizer."""
    write_json(output / "config.json", {**settings, "dtype": "float32", "torch_dtype": "float32"})
    rows = family(tower, "").rows(tower.encoder)
    write_tensors(output / "model.safetensors", names.save(rows, names.flatten(tower.params)))
    if vocabulary is not None:
        save_tokenizer(vocabulary, output)


def save_tokenizer(vocabulary: Vocabulary, output: Path) -> None:
    """Writes what `AutoTokenizer` reads."""
    tokens = {
        "bos_token": vocabulary.begin,
        "eos_token": vocabulary.end,
        "cls_token": vocabulary.begin,
        "sep_token": vocabulary.end,
        "pad_token": vocabulary.padding,
        "unk_token": vocabulary.unknown,
    }
    tokens = {name: token for name, token in tokens.items() if token is not None}
    (output / "tokenizer.json").write_text(vocabulary.json, encoding="utf-8")
    write_json(output / "special_tokens_map.json", tokens)
    write_json(
        output / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": vocabulary.length,
            "model_input_names": ["input_ids", "attention_mask"],
            "padding_side": "right",
            "truncation_side": "right",
            "clean_up_tokenization_spaces": False,
            **tokens,
        },
    )


def write_json(path: Path, content: Any) -> None:
    """Indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Float[np.ndarray, "..."]]) -> None:
    """A safetensors file as `transformers` wants it, with the mode that the umask gives."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode
    try:
        # In a file of its own, which only the owner may read.
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{path.name} cannot be written: {error}") from error
    path.chmod(mode)
