"""What is done with the metrics of a step once they can be read."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.collapse import Collapse
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.journal import Journal
from contrastive_jax.training.pace import Pace

log = logging.getLogger(__name__)


class NonFiniteLoss(RuntimeError):  # noqa: N818
    """The loss or its gradient, of `step`, is NaN or infinite; the last checkpoint is from before."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Done(NamedTuple):
    """A step whose metrics have not been read; told: of all processes the numbers of broken records, of
    requests to stop, and of those to save."""

    step: int
    metrics: Mapping[str, jax.Array]
    told: Any


class StepMetrics:
    """Refuses steps that are not finite, or counts them as skipped, and writes the lines of a run.

    also: says of a step whether it has a line beside those of `config.logging.every` and the last.
    """

    def __init__(
        self,
        experiment: Experiment,
        checkpoints: Checkpoints,
        journal: Journal,
        pace: Pace,
        also: Callable[[int], bool],
    ) -> None:
        self.config, self.checkpoints, self.journal = experiment.config, checkpoints, journal
        self.experiment, self.pace, self.also = experiment, pace, also
        self.collapse = Collapse(experiment, checkpoints.extra)
        self._told = False

    def begin(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Takes up a run that has these lines: what is in them is not told again."""
        self._told = any(line.get("collapsed") for line in lines)

    def settle(self, done: Done) -> tuple[dict[str, Any], bool, bool]:
        """Reads a step's metrics: (its line, empty where none is due; whether a process is asked to stop; to
        save)."""
        step, skipped_before = done.step, self.skipped
        values = {name: value.item() for name, value in jax.device_get(dict(done.metrics)).items()}
        broken, stops, saves = map(int, done.told)
        if bad := _not_finite(values):
            self._skip(step, bad)
        elif (told := self.collapse(step, values)) and not self._told:
            self._told = True
            if self.journal.first:
                log.warning(told)
        if not self._due(step):
            return {}, stops > 0, saves > 0
        values |= {
            # The optimizer knows nothing of the steps that were skipped.
            "learning_rate": float(self.experiment.rate(step - 1 - skipped_before)),
            "broken": broken,
            "skipped": self.skipped,
            **({"collapsed": True} if self.checkpoints.extra.get("collapsed") else {}),
            **self.pace.line(step),
        }
        self.journal.write(step, values)
        return {"step": step, **values}, stops > 0, saves > 0

    @property
    def skipped(self) -> int:
        """Steps that were skipped so far in the whole run; it stands beside every state that is saved."""
        return self.checkpoints.extra.get("skipped", 0)

    def _skip(self, step: int, bad: str) -> None:
        """Counts a bad step; raises NonFiniteLoss for one too many."""
        most = self.config.skip_bad_steps
        if self.skipped < most:
            self.checkpoints.extra["skipped"] = self.skipped + 1
            return
        self.checkpoints.wait()
        limit = f", and {self.skipped} steps are skipped already (config.skip_bad_steps={most})"
        raise NonFiniteLoss(
            f"step {step}: {bad}{limit if most else ''}; the run stops here and keeps its checkpoints "
            f"up to step {self.checkpoints.latest() or 0}",
            step,
        )

    def _due(self, step: int) -> bool:
        return step % self.config.logging.every == 0 or step == self.config.steps or self.also(step)


def _not_finite(values: Mapping[str, float]) -> str:
    """What to say of a loss or gradient norm that is not finite; empty where both are."""
    names = ("loss", "gradient_norm")
    return next((f"{name} is {values[name]}" for name in names if not math.isfinite(values[name])), "")
