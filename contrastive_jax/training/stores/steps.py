"""The steps in a checkpoint folder of an object store."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from contrastive_jax.training.manifest import MANIFEST, write_manifest
from contrastive_jax.training.stored_steps import STEP, StoredSteps
from contrastive_jax.training.stores.paths import StorePath

_ASIDE = f"damaged-{MANIFEST}"


class BucketSteps(StoredSteps):
    """Steps `<folder>/<step>`: a store has no renames, so one can be seen when it has its manifest.

    The manifest is written last and removed first. A damaged step that is put aside keeps its objects, and
    its manifest under another name, until the step is written again.
    """

    folder: StorePath

    def prepare(self) -> None:
        """Removes what a killed process left half written or half removed."""
        for entry in self.folder.iterdir():
            whole = (entry / MANIFEST).exists() or (entry / _ASIDE).exists()
            if re.fullmatch(STEP, entry.name) and not whole:
                entry.remove_tree()

    def path(self, step: int, hidden: str | None = None) -> StorePath:
        """Of a step's folder; it has no other one."""
        return self.folder / str(step)

    def steps(self) -> list[int]:
        """The steps that can be seen, in order; intact or not."""
        names = (entry.name for entry in self.folder.iterdir() if re.fullmatch(STEP, entry.name))
        return sorted(int(name) for name in names if (self.folder / name / MANIFEST).exists())

    def begin(self, step: int) -> None:
        """Removes what there is of a step that is about to be written."""
        (self.path(step) / MANIFEST).unlink(missing_ok=True)
        self.path(step).remove_tree()

    def publish(self, step: int, digests: Mapping[str, Any]) -> None:
        """Makes a step whole: its manifest comes last."""
        write_manifest(self.path(step), digests)

    def hide(self, step: int, suffix: str) -> None:
        """Takes a step out of sight by removing its manifest, and then all of it if it is to be `removed`."""
        folder = self.path(step)
        if suffix == "removed":
            self.begin(step)
            return
        (folder / _ASIDE).write_bytes((folder / MANIFEST).read_bytes())
        (folder / MANIFEST).unlink()

    def remove(self, steps: list[int]) -> None:
        """Removes steps, each out of sight first."""
        for step in steps:
            self.begin(step)

    def abandon(self, step: int) -> None:
        """Removes what a save that failed has written, as far as the store lets it."""
        folder = self.path(step).hasty
        with contextlib.suppress(Exception):  # why it failed is told already
            (folder / MANIFEST).unlink(missing_ok=True)
            folder.remove_tree()
