"""The steps in a checkpoint folder: which can be seen, which are intact, and putting one out of sight."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from contrastive_jax.distributed.processes import Group
from contrastive_jax.errors import InputError
from contrastive_jax.training.manifest import (
    CheckpointError,
    DamagedCheckpoint,
    verify_manifest,
    write_manifest,
)
from contrastive_jax.training.stored_json import parsed
from contrastive_jax.training.stores.paths import content
from contrastive_jax.training.workdir import sync_folder

log = logging.getLogger(__name__)

FORMAT = 1
_METADATA = {"format": int, "step": int, "tree": dict, "extra": dict}
STEP = r"0|[1-9][0-9]*"
_LEFTOVER = re.compile(r"\.\d+\.(partial|removed)")


class NoIntactCheckpoint(CheckpointError):  # noqa: N818
    """There are checkpoints and every one is damaged; starting again from 0 is for people to decide."""


class Found(NamedTuple):
    """An intact step; damaged: the newer ones that are not, with the reasons."""

    step: int
    metadata: dict[str, Any]
    damaged: dict[int, str]


class StoredSteps:
    """The folders `<folder>/<step>`, and hidden ones that are not whole yet or no more.

    Args:
      folder: of the run's checkpoints.
      group: the processes that verify together, each its share of the files.
    """

    def __init__(self, folder: Path, group: Group) -> None:
        self.folder, self.group = folder, group

    def prepare(self) -> None:
        """Makes the folder, or removes what a killed process left half written or half removed in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for entry in self.folder.iterdir():
            if _LEFTOVER.fullmatch(entry.name):
                shutil.rmtree(entry)

    def path(self, step: int, hidden: str | None = None) -> Path:
        """Of a step's folder, or of its hidden one for the reason `hidden`."""
        return self.folder / (f".{step}.{hidden}" if hidden else str(step))

    def steps(self) -> list[int]:
        """The steps that can be seen, in order; intact or not."""
        if not self.folder.is_dir():
            return []
        names = (entry.name for entry in self.folder.iterdir() if entry.is_dir())
        return sorted(int(name) for name in names if re.fullmatch(STEP, name))

    def begin(self, step: int) -> None:
        """Makes the hidden folder in which a step is written."""
        partial = self.path(step, "partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)

    def publish(self, step: int, digests: Mapping[str, Any]) -> None:
        """Makes a step that is written visible, in one rename, with a manifest.

        digests: of its files, as far as they are known; see `write_manifest`.
        """
        partial = self.path(step, "partial")
        write_manifest(partial, digests)
        if self.path(step).exists():
            self.hide(step, "removed")
        os.rename(partial, self.path(step))
        sync_folder(self.folder)

    def remove(self, steps: list[int]) -> None:
        """Removes steps, and what was left of such a removal, each out of sight first."""
        for step in steps:
            self.hide(step, "removed")
        for entry in self.folder.glob(".*.removed"):
            shutil.rmtree(entry)

    def hide(self, step: int, suffix: str) -> None:
        """Takes a step out of sight in one rename, so that a kill leaves no half of it to be seen."""
        shutil.rmtree(self.path(step, suffix), ignore_errors=True)
        os.rename(self.path(step), self.path(step, suffix))
        sync_folder(self.folder)

    def abandon(self, step: int) -> None:
        """Removes the hidden folder of a save that failed: what a full disk has no room for must not stay.

        Orbax tells of the first write that fails while others go on, and each of them may still make its
        file, and the folder again: it has to stay away for a while, for which this waits 5 s at most.
        """
        partial, gone = self.path(step, "partial"), 0
        for _ in range(100):
            gone = 0 if partial.exists() else gone + 1
            if gone == 4:
                return
            shutil.rmtree(partial, ignore_errors=True)
            time.sleep(0.05)
        log.warning("%s of a checkpoint that was not written could not be removed", partial)

    def find(self, step: int | None) -> Found | None:
        """The newest intact step, or `step`; None where there is none at all.

        Raises InputError: `step` is missing or damaged, or one is of a newer format; NoIntactCheckpoint.
        """
        steps = self.group.tell(self.steps())
        if step is not None and step not in steps:
            known = ", ".join(map(str, steps)) or "none"
            raise InputError(f"there is no checkpoint of step {step} in {self.folder}; known steps: {known}")
        damaged: dict[int, str] = {}
        for found in reversed(steps if step is None else [step]):
            try:
                return Found(found, self._verified(found), damaged)
            except DamagedCheckpoint as error:
                damaged[found] = str(error)
        if step is not None:
            raise InputError(f"the checkpoint of step {step} in {self.folder} is damaged ({damaged[step]})")
        now = self.group.tell(self.steps())
        if set(now) - set(steps):
            # A training beside this has written more, and may have removed those that were being read here.
            return self.find(step)
        reasons = "; ".join(f"{known}: {damaged[known]}" for known in sorted(damaged) if known in now)
        if not reasons:
            return None
        raise NoIntactCheckpoint(
            f"no intact checkpoint in {self.folder} ({reasons}): put an intact copy there or give another "
            "work directory; nothing was changed"
        )

    def _verified(self, step: int) -> dict[str, Any]:
        folder, problem = self.path(step), None
        try:
            verify_manifest(folder, self.group.index, self.group.count)
        except DamagedCheckpoint as error:
            problem = str(error)
        if problems := [found for found in self.group.gather(problem) if found]:
            raise DamagedCheckpoint(problems[0])
        metadata = _described(content(folder / "metadata.json"))
        if metadata["format"] > FORMAT:
            raise InputError(
                f"{folder} has checkpoint format {metadata['format']} and this version reads up to {FORMAT}: "
                "install a newer contrastive-jax"
            )
        if metadata["step"] != step:
            raise DamagedCheckpoint(f"metadata.json is that of step {metadata['step']}")
        return metadata

    def tell_damaged(self, found: Found, put_aside: bool) -> None:
        """Warns of the newer steps that were passed over, and takes them out of sight if so asked."""
        if not found.damaged or not self.group.first:
            return
        log.warning(
            "damaged checkpoint in %s (%s): going on from step %d",
            self.folder,
            "; ".join(f"{step}: {reason}" for step, reason in found.damaged.items()),
            found.step,
        )
        if put_aside:
            for step in found.damaged:
                self.hide(step, "damaged")


def _described(content: bytes) -> dict[str, Any]:
    """What metadata.json says; DamagedCheckpoint where it is not what is written there."""
    try:
        found = parsed(content, "metadata.json", "it is damaged", _METADATA)
    except InputError as error:
        raise DamagedCheckpoint(str(error)) from error
    for name, leaf in found["tree"].items():
        shape = leaf.get("shape") if isinstance(leaf, dict) else None
        sizes = isinstance(shape, list) and all(isinstance(n, int) and 0 <= n < 2**48 for n in shape)
        if not sizes or not isinstance(leaf.get("dtype"), str):
            raise DamagedCheckpoint(f"metadata.json has no shape and type of {name[:80]}")
    return found
