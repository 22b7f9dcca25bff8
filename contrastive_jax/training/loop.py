"""The loop: batches in, metrics and checkpoints out, and nothing lost whenever it is killed.

What is durable when: the line of a step before the checkpoint of that step, so that a run resumed from a
checkpoint has the lines up to it; the checkpoint before its evaluation, which is run again if its figures
are not in the line; `result.json` last of all.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from contrastive_jax.data.pipeline import Batches, batches
from contrastive_jax.data.tokenizers import Tokenizer
from contrastive_jax.data.views import Text
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.evaluation.embedding import Embedder
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.report import write_report
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.workdir import write_json
from contrastive_jax.training.writers import MetricsFile, Progress, TensorBoard

log = logging.getLogger(__name__)

Advance = Callable[[TrainState], tuple[TrainState, Mapping[str, jax.Array], int]]
_SECONDS_BETWEEN_LOOKS = 0.005


class Stopped(Exception):  # noqa: N818
    """A signal asked the run to stop; its state is saved."""


class StoppedInStep(Stopped):
    """It did so in the middle of a step, of which a program may still be under way."""


class NonFiniteLoss(RuntimeError):  # noqa: N818
    """The loss or its gradient is NaN or infinite; the last checkpoint is from before."""


class Run:
    """One process's part of one run in one work directory."""

    def __init__(self, experiment: Experiment, path: Path, stop: StopRequest):
        self.experiment, self.config, self.path, self.stop = experiment, experiment.config, path, stop
        experiment.check_data()
        self.views = bind_tokenizer(experiment, path, train=True)
        # Virtual CPU devices share one pool of threads: the collectives of two programs under way can
        # starve each other for ever.
        devices = experiment.mesh.devices
        self._one_at_a_time = devices.size > 1 and devices.flat[0].platform == "cpu"
        self._out_of_core = self.config.mode == "out_of_core"
        self.tensorboard: TensorBoard | None = None
        self.metrics = MetricsFile(path / "metrics.jsonl")
        self.checkpoints = Checkpoints(
            path / "checkpoints", self.config.checkpoint.every, self.config.checkpoint.keep
        )

    def __call__(self) -> dict[str, Any]:
        """Trains or resumes to the end; the result, which is in `result.json` too.

        Raises Stopped after saving when `stop` is requested, NonFiniteLoss, CheckpointError.
        """
        self._check_stop()
        with self.checkpoints, jax.set_mesh(self.experiment.mesh):
            restored = self.checkpoints.restore(self.experiment.state_structure)
            start, state = restored[:2] if restored else (0, self.experiment.initial_state())
            if restored:
                log.info("resuming from step %d", start)
            self.metrics.truncate_after(start)
            if self.config.logging.tensorboard:
                self.tensorboard = TensorBoard(self.path / "tensorboard", start if restored else None)
            with Progress(self.config.steps, start) as self.progress:
                state = self._train(state, start)
            figures = self._evaluate_if_due(state, self.config.steps)
            if self.tensorboard:
                self.tensorboard.close()
        lines = self.metrics.lines()
        write_report(self.experiment, self.views, state.params, lines, self.path / "report")
        self._check_stop()
        result = {"step": self.config.steps, "loss": lines[-1]["loss"], **figures}
        write_json(self.path / "result.json", result)
        return result

    def _train(self, state: TrainState, start: int) -> TrainState:
        if start >= self.config.steps:
            return state
        with self._batches(start) as stream:
            if start:
                self._evaluate_if_due(state, start)
            advance = self._out_of_core_step(stream) if self._out_of_core else self._in_core_step(stream)
            self._logged_at, self._logged_step = time.perf_counter(), start
            unsettled: tuple[int, Mapping, int] | None = None
            for number in range(start + 1, self.config.steps + 1):
                try:
                    state, metrics, broken = advance(state)
                except (Stopped, OSError):
                    # In the middle of a step out of core, whose state is still the one before it.
                    if self._out_of_core and number - 1 > start:
                        self.checkpoints.save(number - 1, state)
                    raise
                # The metrics of a step are read while the next one runs.
                if unsettled:
                    self._settle(*unsettled)
                unsettled = number, metrics, broken
                if self._one_at_a_time or self._out_of_core or self._pause_after(number):
                    self._settle(*unsettled)
                    unsettled = None
                    if self._pause_after(number):
                        self._pause(state, number)
        return state

    def _batches(self, start: int) -> Batches:
        """The batches from step `start` on; out of core the pieces of each, twice."""
        data, pieces = self.config.data, {}
        if self._out_of_core:
            pieces = {"rows": self.experiment.cut.rows(), "readings": 2}
        return batches(
            self.experiment.source,
            self.experiment.sampler,
            self.views,
            fields=self.experiment.fields,
            seed=self.config.seed,
            start=start,
            steps=self.config.steps,
            workers=data.workers,
            prefetch=data.prefetch,
            broken_share=data.broken_share,
            **pieces,
        )

    def _in_core_step(self, stream: Batches) -> Advance:
        step = self.experiment.train_step()

        def advance(state):
            batch = next(stream)
            broken = int(batch.pop("broken"))
            return *step(state, jax.device_put(batch, by_example(self.experiment.mesh))), broken

        return advance

    def _out_of_core_step(self, stream: Batches) -> Advance:
        step, ahead = self.experiment.out_of_core_step, 0 if self._one_at_a_time else 1

        def wait(output):
            # A signal is not seen in the middle of a wait, and a program may take minutes.
            while not self.stop.requested:
                if output.is_ready():
                    return
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            raise StoppedInStep(self.stop.requested)

        return lambda state: step(state, stream, wait, ahead)

    def _pause_after(self, step: int) -> bool:
        due = self.checkpoints.due(step) or self._evaluation_due(step)
        return bool(due or step == self.config.steps or self.stop.requested)

    def _pause(self, state: TrainState, step: int) -> None:
        """Everything between two steps: the checkpoint, the evaluation, the end."""
        began = time.perf_counter()
        if self.checkpoints.due(step) or step == self.config.steps or self.stop.requested:
            self.checkpoints.save(step, state)
        self._check_stop()
        if step < self.config.steps:
            self._evaluate_if_due(state, step)
        self._logged_at += time.perf_counter() - began

    def _settle(self, step: int, metrics: Mapping[str, jax.Array], broken: int) -> None:
        """Reads a step's metrics, refuses non-finite ones, logs them when a line is due."""
        values = {name: value.item() for name, value in jax.device_get(dict(metrics)).items()}
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                raise NonFiniteLoss(
                    f"step {step}: {name} is {values[name]}; the run stops here and keeps its checkpoints "
                    f"up to step {self.checkpoints.latest() or 0}: lower config.optimizer.learning_rate, "
                    "or look at the data of this step"
                )
        if not (
            step % self.config.logging.every == 0 or step == self.config.steps or self._evaluation_due(step)
        ):
            return
        now = time.perf_counter()
        rate = (step - self._logged_step) * self.config.batch_size / max(now - self._logged_at, 1e-9)
        self._logged_at, self._logged_step = now, step
        values |= {
            "learning_rate": float(self.config.optimizer.schedule(self.config.steps)(step - 1)),
            "pairs_per_second": rate,
            "broken": broken,
        }
        self.metrics.append(step, values)
        self._write_tensorboard(step, values)
        self.progress.update(step, values["loss"], rate)

    def _evaluation_due(self, step: int) -> bool:
        evaluation = self.config.evaluation
        if evaluation is None:
            return False
        return step == self.config.steps or (evaluation.every is not None and step % evaluation.every == 0)

    def _evaluate_if_due(self, state: TrainState, step: int) -> dict[str, float]:
        """The figures of a step that has an evaluation, from its line if they are there."""
        if not self._evaluation_due(step):
            return {}
        names = tuple(f"{name}/" for name in self.config.evaluation.evaluators)
        line = next((line for line in self.metrics.lines() if line["step"] == step), {})
        figures = {name: value for name, value in line.items() if name.startswith(names)}
        if not figures:
            try:
                figures = evaluate(self.experiment, self.views, state.params, self._check_stop)
            except Stopped:
                self.checkpoints.save(step, state)
                raise
            self.metrics.amend(step, figures)
            self._write_tensorboard(step, figures)
        return figures

    def _write_tensorboard(self, step: int, values: Mapping[str, float]) -> None:
        if self.tensorboard:
            self.tensorboard.write(step, dict(values))

    def _check_stop(self) -> None:
        if self.stop.requested:
            raise Stopped(self.stop.requested)


def bind_tokenizer(experiment: Experiment, path: Path, train: bool = False) -> dict[str, Any]:
    """The views with the work directory's tokenizer; one that is not there yet is trained with `train`."""
    views = experiment.config.data.views
    texts = {name: view for name, view in views.items() if isinstance(view, Text)}
    if not texts:
        return dict(views)
    file = path / "tokenizer.json"
    if train and not file.exists():
        fields = sorted({view.field for view in texts.values()})
        captions = (text for field in fields for text in experiment.source.column(field))
        experiment.config.data.tokenizer.train(captions).save(file)
    tokenizer = Tokenizer.load(file)
    return {name: view.bind(tokenizer) if name in texts else view for name, view in views.items()}


def evaluate(
    experiment: Experiment,
    views: Mapping[str, Any],
    params: Any,
    between=lambda: None,
    names: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """{"evaluator/metric": value} of the configured evaluators, or of those named.

    `between` is called after every batch; what it raises ends the evaluation.
    """
    evaluation, source = experiment.config.evaluation, experiment.evaluation_source
    figures = {}
    with jax.set_mesh(experiment.mesh):
        embed = Embedder(experiment.graph, views, params, experiment.mesh, evaluation.batch_size, between)
        for name, evaluator in evaluation.evaluators.items():
            if names is None or name in names:
                figures |= {f"{name}/{metric}": value for metric, value in evaluator.run(embed, source)}
    return figures
