"""Checkpoints: written in the background, complete or invisible, verified before they are used.

A step is the folder `<folder>/<step>` with `state/` (Orbax), `metadata.json` (format version, step,
the name, shape and type of every array, and what the caller adds) and `manifest.json`. It is made under
a hidden name and renamed once: whatever kills the process, each visible step is whole. Of several processes
each writes and reads the arrays that it holds, verifies its share of the files, and process 0 does the rest.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections import ChainMap
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp

from contrastive_jax.data.faults import StoreFault
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.errors import InputError
from contrastive_jax.training import structure
from contrastive_jax.training.manifest import CheckpointError, digests
from contrastive_jax.training.orbax_arrays import OrbaxArrays
from contrastive_jax.training.retention import best, surplus
from contrastive_jax.training.stored_steps import FORMAT, StoredSteps
from contrastive_jax.training.stores.arrays import StoreArrays
from contrastive_jax.training.stores.paths import StorePath, place
from contrastive_jax.training.stores.steps import BucketSteps
from contrastive_jax.training.workdir import write_json

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run, in one folder.

    Args:
      folder: made when it is not there; in a store too.
      keep: how many of the newest stay; None keeps all.
      keep_every: multiples of it stay as well.
      lowest: of the steps in `scores` the one with the lowest stays, not the one with the highest.
      read_only: for evaluation beside a running training: nothing in the folder is changed.
      group: the processes of the run, which all call `save` and `restore`, for the same steps.
      before: called by `save` before a step can become visible.

    For the caller to fill: `scores`, a number for each step that has been measured; `extra`, JSON values
    that are kept beside every state that is saved.

    Raises:
      InputError: `keep` is less than 1.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | StorePath,
        keep: int | None = 2,
        keep_every: int | None = None,
        lowest: bool = False,
        read_only: bool = False,
        group: Group = ALONE,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        if keep is not None and keep < 1:
            raise InputError(f"checkpoint.keep is {keep}: give 1 or more, or None to keep all")
        self.folder = place(folder).absolute()
        self.keep, self.keep_every, self.lowest = keep, keep_every, lowest
        self.read_only, self.group, self._before = read_only, group, before
        self.scores: dict[int, float] = {}
        self.extra: dict[str, Any] = {}
        self._saves = 0
        self._current: int | None = None
        self._pending: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._stored, self._arrays = _storage(self.folder, group)
        if not read_only and group.first:
            self._stored.prepare()

    def steps(self) -> list[int]:
        """The steps that can be seen, in order; intact or not."""
        return self._stored.steps()

    def latest(self) -> int | None:
        """The newest step that can be seen, or None."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """The best of the steps in `scores` that are there, or None."""
        return best(self.steps(), self.scores, self.lowest)

    def save(self, step: int, state: Any, extra: dict[str, Any] | None = None) -> None:
        """Starts to write `state`, a pytree of arrays, as the checkpoint of `step`.

        On return the arrays have been copied to the host, so that the caller may donate them; the
        rest goes on in the background. One save is under way at a time: a second one waits for it.
        The state of a step is taken to be a function of the step: a step that this object has
        already saved or restored is not written again.

        Args:
          step: updates done.
          state: pytree of jax arrays, typed PRNG keys among them.
          extra: more JSON values kept beside the state and given back by `restore`.

        Raises:
          CheckpointError: this save, or the one before, could not be written. Earlier checkpoints stay.
        """
        if self.read_only:
            raise ValueError("checkpoints opened with read_only=True cannot be saved")
        self.wait()
        if self.group.tell(step == self._current and step in self.steps()):
            return
        self._saves += 1
        described = structure.describe(jax.eval_shape(lambda tree: tree, state))
        metadata = {"format": FORMAT, "step": step, "tree": described, "extra": self.extra | (extra or {})}
        json.dumps(metadata, allow_nan=False)
        arrays = {
            name: jax.random.key_data(leaf) if structure.is_key(leaf) else jnp.asarray(leaf)
            for name, leaf in structure.named_leaves(state).items()
            if math.prod(jnp.shape(leaf))  # Orbax refuses arrays without elements
        }
        name = f"checkpoint {step} ({self._saves})"
        try:
            self._before()
            if self.group.first:
                self._stored.begin(step)
            self.group.barrier(name)
            self._arrays.save(self._stored.path(step, "partial") / "state", arrays)
        except (OSError, ValueError, StoreFault) as error:
            raise self._not_written(step, error) from error
        self._pending = self._thread.submit(self._commit, step, metadata, name)

    def _commit(self, step: int, metadata: dict[str, Any], name: str) -> None:
        partial = self._stored.path(step, "partial")
        try:
            self._arrays.wait_until_finished()
            self._current = step
            if self.group.first:
                write_json(partial / "metadata.json", metadata)
            self.group.barrier(f"{name} is written")
            own = digests(partial, self.group.index, self.group.count)
            found = self.group.collect(own, name)
            if not self.group.first:
                return
            self._stored.publish(step, dict(ChainMap(*found)))
        except Exception as error:
            self._current = None
            raise self._not_written(step, error) from error
        try:
            steps = [known for known in self.steps() if known <= step]
            self._stored.remove(surplus(steps, self.keep, self.keep_every, self.scores, self.lowest))
        except (OSError, StoreFault) as error:
            log.warning("old checkpoints in %s could not be removed: %s", self.folder, error)

    def _not_written(self, step: int, error: Exception) -> CheckpointError:
        if self.group.first:
            self._stored.abandon(step)
        full = "No space left on device" in str(error)
        reason = "no space left on device" if full else (str(error).splitlines() or [repr(error)])[0][:300]
        return CheckpointError(f"checkpoint {step} was not written in {self.folder}: {reason}")

    def wait(self) -> None:
        """Waits until the save under way, if any, is complete and visible.

        Raises:
          CheckpointError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits, as `wait` does, and frees the background threads."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            with contextlib.suppress(OSError, ValueError):  # of a save that has failed and been told
                self._arrays.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def restore(
        self, target: Any, step: int | None = None, partial: bool = False
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """Reads the newest intact checkpoint, or that of `step`, onto the target's devices.

        A damaged newest one is passed over with one warning, and put aside under a hidden name once
        an older one has been restored (not with `read_only`).

        Args:
          target: the state's structure, with `jax.ShapeDtypeStruct` (or arrays) as leaves; a leaf's
            sharding says where to put it, on any mesh; without one it goes to the first device.
          step: this step and no other.
          partial: the target is some of the state's entries, such as {"params": ...}; nothing else is read.

        Returns:
          `(step, state, extra)`, or None where there is no checkpoint at all.

        Raises:
          InputError: `step` is missing or damaged; the checkpoint is of another model than `target`
            or of a newer format.
          NoIntactCheckpoint: there are checkpoints, none of them intact; nothing was touched.
        """
        self.wait()
        found = self._stored.find(step)
        if found is None:
            return None
        state = self._read(found.step, found.metadata, target, partial)
        self._stored.tell_damaged(found, put_aside=not self.read_only)
        self._current = found.step
        return found.step, state, found.metadata["extra"]

    def described(self, step: int | None = None) -> tuple[int, dict[str, dict[str, Any]]] | None:
        """The step that `restore` would read, and the shape and type of each of its arrays by name.

        Raises as `restore` does; None where there is no checkpoint at all.
        """
        self.wait()
        found = self._stored.find(step)
        return found and (found.step, found.metadata["tree"])

    def arrays(self, step: int, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Some of a step's arrays by their names in it; nothing else is read, nor verified again.

        wanted: the shapes that they have, and the types and shardings that they are to have.
        """
        full = {name: leaf for name, leaf in wanted.items() if math.prod(leaf.shape)}
        arrays = self._arrays.restore(self._stored.path(step) / "state", full) if full else {}
        for name, leaf in wanted.items():
            if name not in full:
                arrays[name] = jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)
        return arrays

    def _read(self, step: int, metadata: dict[str, Any], target: Any, partial: bool) -> Any:
        wanted, there = structure.named_leaves(target), metadata["tree"]
        if partial:
            entries = {name.partition("/")[0] for name in wanted}
            there = {name: leaf for name, leaf in there.items() if name.partition("/")[0] in entries}
        structure.check_fit(str(self._stored.path(step)), there, structure.describe(target))
        stored = {name: structure.stored_form(leaf) for name, leaf in wanted.items()}
        arrays = self.arrays(step, stored)
        leaves = [structure.original_form(arrays[name], leaf) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(target), leaves)


def _storage(folder: Path | StorePath, group: Group) -> tuple[StoredSteps, OrbaxArrays | StoreArrays]:
    """Who knows the steps of a folder, and who writes and reads their arrays."""
    if isinstance(folder, StorePath):
        return BucketSteps(folder, group), StoreArrays(group.first)
    return StoredSteps(folder, group), OrbaxArrays()
