"""The model card: what a folder of weights is, and how it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from contrastive_jax.interop.model import Model
from contrastive_jax.written import encodable, printable

_HEADER = "---\nlibrary_name: {library}\ntags:\n- contrastive\n---\n"
_LIBRARY = {
    "huggingface": "transformers",
    "sentence-transformers": "sentence-transformers",
    "open_clip": "open_clip",
    "safetensors": "jax",
    "jax": "jax",
}
_LOADING = {
    "huggingface": 'from transformers import {model}\n\nmodel = {model}.from_pretrained("FOLDER")',
    "open_clip": (
        "import open_clip\n\n"
        'model, preprocess = open_clip.create_model_from_pretrained("local-dir:FOLDER")\n'
        'tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")'
    ),
    "sentence-transformers": (
        "from sentence_transformers import SentenceTransformer\n\n"
        'model = SentenceTransformer("FOLDER")\nembeddings = model.encode(["a text"])'
    ),
    "safetensors": (
        'from safetensors.numpy import load_file\n\nparameters = load_file("FOLDER/model.safetensors")'
    ),
    "jax": (
        "import jax\n\n"
        'embed = jax.export.deserialize(bytearray(open("FOLDER/{branch}.bin", "rb").read())).call\n'
        "embeddings = embed(batch)  # signatures.json says of what shape"
    ),
}
_MOST_METRICS = 40


def card(format: str, model: Model, written: Mapping[str, Any]) -> str:
    """The README.md of an exported model, in Markdown: what it is, how to load it, what it reached.

    written: what the format's own `save` said.
    """
    found = model.card
    loading = _LOADING[format].format(
        model=written.get("model", "AutoModel"), branch=next(iter(model.branches), "image")
    )
    parts = [
        _HEADER.format(library=_LIBRARY[format]),
        f"# {found.get('name', 'A contrastive model')}",
        "Encoders trained by comparing their embeddings with each other, by contrastive_jax.",
        f"## Loading\n\n```python\n{loading}\n```",
        _list("Branches", {name: _branch(model, name) for name in model.branches}),
    ]
    facts = {"step": found.get("step"), "data": found.get("data"), **_scale(model)}
    parts.append(_list("Training", {key: value for key, value in facts.items() if value is not None}))
    if found.get("metrics"):
        parts.append(_metrics(found["metrics"]))
    if found.get("config"):
        text = json.dumps(found["config"], indent=1, sort_keys=True, default=str)
        parts.append(f"## Config\n\n```json\n{text}\n```")
    return encodable("\n\n".join(part for part in parts if part) + "\n")


def _branch(model: Model, name: str) -> str:
    branch = model.branches[name]
    view = model.views[branch.view]
    parts = [f"view of shape {list(view.shape)} and type {view.dtype}", f"encoder `{branch.encoder}`"]
    parts += [f"head `{head}`" for head in branch.heads] + ["unit length"] * bool(branch.normalize)
    return ", ".join(parts)


def _scale(model: Model) -> dict[str, float | None]:
    return {"scale of the cosines": model.scale, "bias of the logits": model.bias}


def _list(title: str, entries: Mapping[str, Any]) -> str:
    lines = "\n".join(f"- {key}: {value}" for key, value in entries.items())
    return f"## {title}\n\n{lines}" if entries else ""


def _metrics(metrics: Mapping[str, Any]) -> str:
    numbers = {key: value for key, value in metrics.items() if isinstance(value, (int, float))}
    named = {printable(key).replace("|", "\\|"): value for key, value in numbers.items()}
    rows = "\n".join(f"| {key} | {value:.4g} |" for key, value in list(named.items())[:_MOST_METRICS])
    return f"## Metrics\n\n| metric | value |\n|---|---|\n{rows}" if rows else ""
