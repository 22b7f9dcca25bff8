"""The steps of a run that are evaluated: once each, and what their figures say of its checkpoints.

Beside the figures of an evaluator in a line stands, as `<evaluator>/config`, a digest of what it was asked: a
run may go on with another evaluation, and figures of before are no answer to a question of now.
"""

from __future__ import annotations

import dataclasses
import hashlib
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
        evaluation = self.config.evaluation
        evaluators = evaluation.evaluators.items() if evaluation else ()
        self._asked = {
            f"{name}/config": digest(evaluator, evaluation.source) for name, evaluator in evaluators
        }

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
        line = next((line for line in self.journal.lines() if line["step"] == step), {})
        figures = self.group.tell(self._figures(line))
        if figures is None:
            with self.clock.spent("evaluation"):
                figures = self._evaluated(state, step)
            self.journal.amend(step, figures | self._asked, instead_of=self._prefixes)
            self._check_best(figures, state, step)
        self.score({"step": step, **figures})
        return figures

    def of_now(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """A line without the figures of evaluators that were asked something else then.

        A line of an earlier version does not tell what was asked, and stays whole.
        """
        asked = self._asked.items()
        stale = tuple(name.removesuffix("config") for name, now in asked if line.get(name, now) != now)
        return {name: value for name, value in line.items() if not name.startswith(stale)}

    @property
    def _prefixes(self) -> tuple[str, ...]:
        return tuple(name.removesuffix("config") for name in self._asked)

    def _figures(self, line: Mapping[str, Any]) -> dict[str, float] | None:
        """The figures of all evaluators in a line; None where one is missing or was asked something else."""
        if any(line.get(name) != asked for name, asked in self._asked.items()):
            return None
        own = {name: value for name, value in line.items() if name.startswith(self._prefixes)}
        return {name: value for name, value in own.items() if name not in self._asked}

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
        for line in map(self.of_now, lines):
            if best in line and line[best] is not None:
                self.checkpoints.scores[line["step"]] = line[best]

    def _check_best(self, figures: Mapping[str, float], state: TrainState, step: int) -> None:
        best = self.config.checkpoint.best
        if best and "/" in best and best not in figures:
            self.checkpoints.save(step, state)
            raise InputError(f"config.checkpoint.best={best}: no such metric; {nearest(best, figures)}")


def digest(evaluator: Any, source: str | None) -> str:
    """Eight hex digits of what an evaluator is asked: its class, the source that it may read, and those of
    its fields that are not at their defaults, so that a newer version's further fields change nothing."""
    given = {
        field.name: getattr(evaluator, field.name)
        for field in dataclasses.fields(evaluator)
        if getattr(evaluator, field.name) != field.default
    }
    return hashlib.sha256(repr((type(evaluator).__name__, source, given)).encode()).hexdigest()[:8]
