"""What is done with the metrics of a step once they can be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.journal import Journal
from contrastive_jax.training.pace import Pace


class NonFiniteLoss(RuntimeError):  # noqa: N818
    """The loss or its gradient is NaN or infinite; the last checkpoint is from before."""


class Done(NamedTuple):
    """A step whose metrics have not been read; told: [broken records, stop requests] of all processes."""

    step: int
    metrics: Mapping[str, jax.Array]
    told: Any


class StepMetrics:
    """Refuses steps that are not finite, and writes the lines of a run.

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
        self.pace, self.also = pace, also
        self._rate = self.config.optimizer.schedule(self.config.steps)

    def settle(self, done: Done) -> tuple[dict[str, Any], bool]:
        """Reads a step's metrics: (its line, empty where none is due; whether a process is asked to stop)."""
        step = done.step
        values = {name: value.item() for name, value in jax.device_get(dict(done.metrics)).items()}
        broken, stops = map(int, done.told)
        self._check_finite(step, values)
        if not self._due(step):
            return {}, stops > 0
        values |= {
            "learning_rate": float(self._rate(step - 1)),
            "broken": broken,
            **self.pace.line(step),
        }
        self.journal.write(step, values)
        return {"step": step, **values}, stops > 0

    def _due(self, step: int) -> bool:
        return step % self.config.logging.every == 0 or step == self.config.steps or self.also(step)

    def _check_finite(self, step: int, values: Mapping[str, float]) -> None:
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                self.checkpoints.wait()
                raise NonFiniteLoss(
                    f"step {step}: {name} is {values[name]}; the run stops here and keeps its checkpoints "
                    f"up to step {self.checkpoints.latest() or 0}: lower config.optimizer.learning_rate, "
                    "or look at the data of this step"
                )
