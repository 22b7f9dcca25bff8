"""The steps of a run that are evaluated: once each, and what their figures say of its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from contrastive_jax.configuration import nearest
from contrastive_jax.distributed.processes import Group
from contrastive_jax.errors import InputError
from contrastive_jax.training.advance import Stopped
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.clock import Clock
from contrastive_jax.training.evaluations import evaluate
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.journal import Journal
from contrastive_jax.training.state import TrainState


class EvaluationSteps:
    """Evaluates the steps that `config.evaluation` names, the last one among them.

    views: bound to the tokenizer; between: called after every batch, may raise Stopped.
    """

    def __init__(
        self,
        experiment: Experiment,
        views: Mapping[str, Any],
        checkpoints: Checkpoints,
        journal: Journal,
        group: Group,
        clock: Clock,
        between: Callable[[], None],
    ) -> None:
        self.experiment, self.config, self.views = experiment, experiment.config, views
        self.checkpoints, self.journal, self.group = checkpoints, journal, group
        self.clock, self.between = clock, between

    def due(self, step: int) -> bool:
        """Whether an evaluation belongs after `step` updates."""
        evaluation = self.config.evaluation
        if evaluation is None:
            return False
        return step == self.config.steps or (evaluation.every is not None and step % evaluation.every == 0)

    def figures(self, state: TrainState, step: int) -> dict[str, float]:
        """The figures of a step that has an evaluation, from its line if they are there."""
        if not self.due(step):
            return {}
        names = tuple(f"{name}/" for name in self.config.evaluation.evaluators)
        line = next((line for line in self.journal.lines() if line["step"] == step), {})
        figures = {name: value for name, value in line.items() if name.startswith(names)}
        figures = self.group.tell(figures)
        if not figures:
            with self.clock.spent("evaluation"):
                figures = self._evaluated(state, step)
            self.journal.amend(step, figures)
            self._check_best(figures, state, step)
        self.score({"step": step, **figures})
        return figures

    def _evaluated(self, state: TrainState, step: int) -> dict[str, float]:
        try:
            model = self.experiment.model(state.params, state.teachers, state.statistics)
            return evaluate(self.experiment, self.views, model, self.between)
        except Stopped:
            self.checkpoints.save(step, state)
            raise
        except Exception as error:
            # Of several processes one alone has nobody to save with.
            if self.group.count == 1:
                self.checkpoints.save(step, state)
            if isinstance(error, InputError):
                raise InputError(
                    f"evaluation after step {step}: {error}; mend that, or change config.evaluation, and "
                    "run the same command again"
                ) from error
            raise

    def score(self, *lines: Mapping[str, Any]) -> None:
        """Tells the checkpoints how good the steps of some lines are."""
        best = self.config.checkpoint.best
        for line in lines:
            if best in line and line[best] is not None:
                self.checkpoints.scores[line["step"]] = line[best]

    def _check_best(self, figures: Mapping[str, float], state: TrainState, step: int) -> None:
        best = self.config.checkpoint.best
        if best and "/" in best and best not in figures:
            self.checkpoints.save(step, state)
            raise InputError(f"config.checkpoint.best={best}: no such metric; {nearest(best, figures)}")
