"""What a run writes while it goes: in process 0 alone, whatever the number of processes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from contrastive_jax.distributed.processes import Group
from contrastive_jax.errors import CommandError
from contrastive_jax.training.stores.mirror import Mirror
from contrastive_jax.training.stores.paths import StorePath
from contrastive_jax.training.writers import MetricsFile, Progress, TensorBoard

log = logging.getLogger(__name__)


class Journal:
    """`metrics.jsonl`, TensorBoard and the progress bar of one run; open inside a `with`."""

    def __init__(self, path: Path | StorePath, steps: int, tensorboard: bool, group: Group) -> None:
        self._mirror = None
        if isinstance(path, StorePath):
            self._mirror = Mirror(path, ("metrics.jsonl", "tensorboard"))
            path = self._mirror.local
        self._metrics = MetricsFile(path / "metrics.jsonl")
        self._folder = path / "tensorboard" if tensorboard else None
        self._steps, self._group = steps, group
        self._tensorboard: TensorBoard | None = None
        self._progress: Progress | None = None

    @property
    def first(self) -> bool:
        """Whether it is of the process that writes."""
        return self._group.first

    def begin(self, start: int, resumed: bool) -> int:
        """Takes up the journal at step `start`; the last step that was noted before, at most lost since."""
        if self._mirror and self._group.first:
            self._mirror.fetch()
        lines = self.lines()
        if self._group.first:
            self._metrics.truncate_after(start)
            if self._folder:
                self._tensorboard = TensorBoard(self._folder, start if resumed else None)
            self._progress = Progress(self._steps, start)
            self.flush()
        return self._group.tell(max((line["step"] for line in lines), default=0))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """A line of its own for a step."""
        if self._group.first:
            self._metrics.append(step, dict(values))
            self._add(step, values)
            if self._progress:
                self._progress.update(step, values)
            if self._mirror:
                self._mirror.push_now_and_then()

    def amend(self, step: int, values: Mapping[str, Any], instead_of: tuple[str, ...] = ()) -> None:
        """More values for the line of a step, instead of those whose names begin so."""
        if self._group.first:
            self._metrics.amend(step, dict(values), instead_of)
            self._add(step, values)

    def flush(self, hasty: bool = False) -> None:
        """Makes durable what has been written: on a disk it is already, a store gets it here."""
        if self._mirror and self._group.first:
            self._mirror.push(hasty)

    def lines(self) -> list[dict[str, Any]]:
        """All lines; none in other processes than the first."""
        return self._metrics.lines() if self._group.first else []

    def _add(self, step: int, values: Mapping[str, Any]) -> None:
        if self._tensorboard:
            self._tensorboard.write(step, dict(values))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        if self._progress:
            self._progress.close()
        if self._tensorboard:
            self._tensorboard.close()
        if ended[0] is None:
            self.flush()
            return
        try:
            self.flush(hasty=True)
        except (OSError, CommandError) as error:  # of two faults the first one is told
            log.warning("the last lines are lost: %s", error)
