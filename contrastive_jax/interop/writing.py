"""Models out, in a format by its name."""

from __future__ import annotations

import importlib
from pathlib import Path

from contrastive_jax.errors import InputError
from contrastive_jax.interop.card import card
from contrastive_jax.interop.model import Model

# The file of this folder whose `save(model, output)` writes a format.
FORMATS = {
    "safetensors": "flat",
    "open_clip": "open_clip_folder",
    "huggingface": "huggingface",
    "sentence-transformers": "sentence_transformers_folder",
    "jax": "serving",
}


def save(format: str, model: Model, output: str | Path) -> dict[str, object]:
    """Writes a model into the new or empty folder `output`; says what it wrote.

    Raises InputError: an unknown format, a folder with something in it, or a model that the format cannot
    hold; then it names the config's keys and what the format wants of them.
    """
    if format not in FORMATS:
        raise InputError(f"--format {format}: choose one of {', '.join(FORMATS)}")
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output}: there is something there; give a new or an empty folder")
    module = importlib.import_module(f"contrastive_jax.interop.{FORMATS[format]}")
    written = module.save(model, output)
    (output / "README.md").write_text(card(format, model, written), encoding="utf-8")
    return {"format": format, "output": str(output), **written}
