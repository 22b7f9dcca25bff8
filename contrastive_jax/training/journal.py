"""What a run writes while it goes: in process 0 alone, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from contrastive_jax.distributed.processes import Group
from contrastive_jax.training.writers import MetricsFile, Progress, TensorBoard


class Journal:
    """`metrics.jsonl`, TensorBoard and the progress bar of one run; open inside a `with`."""

    def __init__(self, path: Path, steps: int, tensorboard: bool, group: Group) -> None:
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
        lines = self.lines()
        if self._group.first:
            self._metrics.truncate_after(start)
            if self._folder:
                self._tensorboard = TensorBoard(self._folder, start if resumed else None)
            self._progress = Progress(self._steps, start)
        return self._group.tell(max((line["step"] for line in lines), default=0))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """A line of its own for a step."""
        if self._group.first:
            self._metrics.append(step, dict(values))
            self._add(step, values)
            if self._progress:
                self._progress.update(step, values)

    def amend(self, step: int, values: Mapping[str, Any]) -> None:
        """More values for the line of a step."""
        if self._group.first:
            self._metrics.amend(step, dict(values))
            self._add(step, values)

    def lines(self) -> list[dict[str, Any]]:
        """All lines; none in other processes than the first."""
        return self._metrics.lines() if self._group.first else []

    def _add(self, step: int, values: Mapping[str, Any]) -> None:
        if self._tensorboard:
            self._tensorboard.write(step, dict(values))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.close()
        if self._tensorboard:
            self._tensorboard.close()
