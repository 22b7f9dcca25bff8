"""Work directories that hold no step of a run: what failed in them before its first checkpoint."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrastive_jax.training.stores.paths import StorePath

_FILES = ("metrics.jsonl", "tokenizer.json", "data.json")
_FOLDERS = ("tensorboard", "checkpoints", "report", "profile")
_HALF_WRITTEN = re.compile(r"\.\d+\.(partial|removed)")


def has_step(path: Path | StorePath) -> bool:
    """Whether a work directory has a checkpoint, be it damaged; not one that a kill left half written."""
    folder = path / "checkpoints"
    if isinstance(folder, StorePath):
        return any(name.endswith("manifest.json") for name in folder.files())
    return folder.is_dir() and any(not _HALF_WRITTEN.fullmatch(entry.name) for entry in folder.iterdir())


def begun(path: Path | StorePath) -> bool:
    """Whether a work directory holds a run that has got anywhere: a step, or its end."""
    return (path / "result.json").exists() or has_step(path)


def of_a_run(stored: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is of a run: other things are called so, such as a model's description."""
    return isinstance(stored.get("data"), dict) and "steps" in stored


def clear(path: Path | StorePath) -> None:
    """Removes what a run writes beside its `config.json`; compiled programs, which know no run, may stay."""
    for name in _FILES:
        (path / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        folder = path / name
        if isinstance(folder, StorePath):
            folder.remove_tree()
        elif folder.exists():
            shutil.rmtree(folder)
