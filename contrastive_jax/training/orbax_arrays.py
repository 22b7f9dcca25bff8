"""The arrays of a checkpoint in a folder, by Orbax."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from contrastive_jax.training.background_errors import told_once

_LONGEST_WRITE = 86400  # seconds until Orbax gives up a process that writes; who is lost the group tells


class OrbaxArrays:
    """Arrays by their names; of several processes each writes and reads the parts that it holds."""

    def __init__(self) -> None:
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True)
        self._orbax = ocp.AsyncCheckpointer(handler, timeout_secs=_LONGEST_WRITE)
        told_once()

    def save(self, folder: Path, arrays: Mapping[str, jax.Array]) -> None:
        """Copies the arrays to the host, and starts to write them into `folder`, which it makes."""
        self._orbax.save(folder, args=ocp.args.PyTreeSave(dict(arrays)))

    def wait_until_finished(self) -> None:
        """Waits for what `save` has started; raises what has gone wrong."""
        self._orbax.wait_until_finished()

    def restore(self, folder: Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Arrays in the types and with the shardings that are wanted; nothing else is read."""
        placement = {
            name: ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype)
            for name, leaf in wanted.items()
        }
        given = ocp.args.PyTreeRestore(item=dict(wanted), restore_args=placement, partial_restore=True)
        return self._orbax.restore(folder, args=given)

    def close(self) -> None:
        """Frees the background threads."""
        self._orbax.close()
