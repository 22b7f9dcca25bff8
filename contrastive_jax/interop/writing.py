"""Models out, in a format by its name."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contrastive_jax.errors import InputError
from contrastive_jax.interop.card import card
from contrastive_jax.interop.model import Model
from contrastive_jax.locking import held, partial_path

# The file of this folder whose `writer(model)` writes a format.
FORMATS = {
    "safetensors": "flat",
    "open_clip": "open_clip_folder",
    "huggingface": "huggingface",
    "sentence-transformers": "sentence_transformers_folder",
    "jax": "serving",
}


def save(format: str, model: Model, output: str | Path) -> dict[str, object]:
    """Writes a model into the new or empty folder `output`; says what it wrote.

    The folder is there whole or not at all, whenever the process dies.

    Raises:
      InputError: an unknown format, a folder with something in it, or a model that the format cannot hold;
        then it names the config's keys and what the format wants of them.
      CommandError: another process writes it.
      OSError: it cannot be written; nothing is left of it.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output {output}: there is something there; give a new or an empty folder")
    write = check(format, model)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(output)
    with held(output, f"--output {output}"):
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        try:
            partial.mkdir()
            written = write(partial)
            (partial / "README.md").write_text(card(format, model, written), encoding="utf-8")
            _settle(partial, output)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return {"format": format, "output": str(output), **written}


def check(format: str, model: Model) -> Callable[[Path], dict[str, Any]]:
    """What writes the model into a folder in this format; InputError where the format cannot hold it."""
    if format not in FORMATS:
        raise InputError(f"--format {format}: choose one of {', '.join(FORMATS)}")
    return importlib.import_module(f"contrastive_jax.interop.{FORMATS[format]}").writer(model)


def _settle(partial: Path, output: Path) -> None:
    """Makes a folder durable, and then visible in one rename, which takes the place of an empty one."""
    for entry in (*partial.rglob("*"), partial):
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    os.rename(partial, output)
