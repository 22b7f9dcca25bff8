"""What tells one trained model from another: the content of its checkpoint and of its tokenizer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from contrastive_jax.training.manifest import MANIFEST

if TYPE_CHECKING:
    from contrastive_jax.training.trained import Trained


def fingerprint(trained: Trained) -> str:
    """The same for a copy of a work directory, another for every other checkpoint or tokenizer."""
    digest = hashlib.sha256()
    for file in (
        trained.path / "checkpoints" / str(trained.step) / MANIFEST,
        trained.path / "tokenizer.json",
    ):
        if file.exists():
            digest.update(file.read_bytes())
    return digest.hexdigest()
