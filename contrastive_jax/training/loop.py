"""The loop: batches in, metrics and checkpoints out, and nothing lost whenever it is killed.

What is durable when: the line of a step before the checkpoint of that step, so that a run resumed from a
checkpoint has the lines up to it; the checkpoint before its evaluation, which is run again if its figures
are not in the line; `result.json` last of all.

Several processes run it in step: whatever decides what comes next (a signal, a resumed step, an
evaluation that is still to do) they decide together.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from contrastive_jax.data.faults import StoreFault
from contrastive_jax.data.pipeline import Batches, batches
from contrastive_jax.data.reading import ReaderFailed
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.distributed.rows import local_rows, summed
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.errors import InputError
from contrastive_jax.training import extension
from contrastive_jax.training.advance import Advance, Stopped, in_core, out_of_core
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.clock import Clock, Timed
from contrastive_jax.training.evaluation_steps import EvaluationSteps
from contrastive_jax.training.evaluations import bind_tokenizer
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.exporting import check_exports
from contrastive_jax.training.journal import Journal
from contrastive_jax.training.pace import Pace
from contrastive_jax.training.profiling import Profiler, Window
from contrastive_jax.training.report import write_report
from contrastive_jax.training.save_interval import SaveInterval
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.step_metrics import Done, NonFiniteLoss, StepMetrics
from contrastive_jax.training.stores.paths import StorePath
from contrastive_jax.training.suspects import Suspects
from contrastive_jax.training.trainable import size
from contrastive_jax.training.workdir import write_json

log = logging.getLogger(__name__)


class Run:
    """One process's part of one run in one work directory."""

    def __init__(
        self,
        experiment: Experiment,
        path: Path | StorePath,
        stop: StopRequest,
        group: Group = ALONE,
        clock: Clock | None = None,
        profile: Window | None = None,
        steps_before: int | None = None,
    ):
        """steps_before: that the run in the folder was to have before this start."""
        self.experiment, self.config, self.path = experiment, experiment.config, path
        self.stop, self.group, self.clock = stop, group, clock or Clock()
        self.steps_before = steps_before
        experiment.check_data()
        self.views = bind_tokenizer(experiment, path, train=True, group=group)
        if group.first:
            check_exports(experiment, self.views, path)
        # Virtual CPU devices share one pool of threads: the collectives of two programs under way can
        # starve each other for ever.
        devices = experiment.mesh.devices
        self._one_at_a_time = devices.size > 1 and devices.flat[0].platform == "cpu"
        self._out_of_core = self.config.mode == "out_of_core"
        self._asked_to_stop = self._asked_to_save = False
        keep = self.config.checkpoint
        self.journal = Journal(path, self.config.steps, self.config.logging.tensorboard, group)
        self.checkpoints = Checkpoints(
            *(path / "checkpoints", keep.keep, keep.keep_every, keep.lowest),
            group=group,
            before=self.journal.flush,
        )
        self.interval = SaveInterval(keep.every)
        self.checkpoints.extra["steps"] = [self.config.steps]
        self.pace = Pace(experiment, self.clock)
        stored = self.checkpoints, self.journal
        self.evaluations = EvaluationSteps(
            experiment, self.views, *stored, group, self.clock, self._check_stop
        )
        self.metrics = StepMetrics(experiment, *stored, self.pace, self.evaluations.due)
        self.suspects = Suspects(experiment, self.views, group)
        folder = path / "profile"
        self.profiler = Profiler(profile, folder / str(group.index) if group.count > 1 else folder)

    def __call__(self) -> dict[str, Any]:
        """Trains or resumes to the end; the result, which is in `result.json` too.

        Raises Stopped after saving when `stop` is requested, NonFiniteLoss, CheckpointError.
        """
        with self.checkpoints, jax.set_mesh(self.experiment.mesh):
            self._check_stop()
            restored = self.checkpoints.restore(self.experiment.state_structure)
            start, state = restored[:2] if restored else (0, self.experiment.initial_state(self.group))
            if restored:
                log.info("resuming from step %d", start)
                self._go_on(start, restored[2])
            self.experiment.trainable.tell(state.params)
            with self.journal:
                self.metrics.begin(self.journal.lines())
                self._noted = self.journal.begin(start, bool(restored))
                self.evaluations.score(*self.journal.lines())
                self.profiler.check(start, self.config.steps)
                try:
                    state = self._train(state, start)
                except NonFiniteLoss as error:
                    del state
                    error.__traceback__ = None  # it holds the state as well
                    advice = self.suspects.advice(error.step, self.checkpoints)
                    raise NonFiniteLoss(f"{error}{advice}", error.step) from None
                figures = self.evaluations.figures(state, self.config.steps)
            lines = self.journal.lines()
            model = self.experiment.model(state.params, state.teachers, state.statistics)
            shown = list(map(self.evaluations.of_now, lines))
            write_report(self.experiment, self.views, model, shown, self.path / "report", self.group)
            self._check_stop()
        if not self.group.first:
            return {}
        result = {"step": self.config.steps, "loss": lines[-1]["loss"], **figures}
        if frozen := size(self.experiment.trainable.split(state.params)[1]):
            result["frozen_parameters"] = frozen
        if self.checkpoints.scores:
            result["best_step"] = self.checkpoints.best()
        write_json(self.path / "result.json", result)
        return result

    def _go_on(self, start: int, extra: dict[str, Any]) -> None:
        """Takes up what stands beside a restored state: skipped steps, and the steps of the whole run."""
        totals = extension.totals(extra, self.steps_before, self.config.steps)
        self.checkpoints.extra |= extra | {"steps": totals}
        self.experiment.begun_with(totals[0])
        if self.group.first:
            extension.tell(self.experiment, totals, start, self.metrics.skipped)

    def _train(self, state: TrainState, start: int) -> TrainState:
        if start >= self.config.steps:
            return state
        with self._batches(start) as stream, contextlib.closing(self.profiler):
            if start:
                self.evaluations.figures(state, start)
            advance = self._advance(stream)
            self.group.begin_steps(start, lambda: self.clock.doing)
            self.pace.begin(start)
            self.interval.saved()
            unsettled: Done | None = None
            for number in range(start + 1, self.config.steps + 1):
                self.profiler.before(number - 1)
                with self.clock.spent("repeated" if number <= self._noted else "step"):
                    try:
                        with self.clock.ahead():
                            state, metrics, broken = advance(state)
                    except (Stopped, ReaderFailed, StoreFault, OSError, InputError):
                        # Before or in the middle of a step, with the state that was before it.
                        if unsettled:
                            self._settle(unsettled)
                        self._save_what_is_done(number - 1, start, state)
                        raise
                    done = Done(number, metrics, self._tell(metrics, broken))
                    # The metrics of a step are read while the next one runs.
                    if unsettled:
                        self._settle(unsettled, state)
                    unsettled = done
                    if self._one_at_a_time or self._out_of_core or self._pause_after(number):
                        self.clock.caught_up()
                        self._settle(done, state)
                        unsettled = None
                self.profiler.after(number - 1, metrics)
                if unsettled is None and self._pause_after(number):
                    self._pause(state, number)
        return state

    def _batches(self, start: int) -> Batches:
        """This process's rows of the batches from step `start` on; out of core the pieces of each, twice."""
        data, mesh = self.config.data, self.experiment.mesh
        readings, rows = 1, local_rows(mesh, self.config.batch_size)[None]
        if self._out_of_core:
            readings, rows = 2, self.experiment.cut.local_rows(mesh)
        return batches(
            self.experiment.source,
            self.experiment.sampler,
            self.views,
            fields=self.experiment.numberings,
            seed=self.config.seed,
            start=start,
            steps=self.config.steps,
            skip=self.experiment.skipped,
            workers=data.workers,
            prefetch=data.prefetch,
            broken_share=data.broken_share,
            stall_seconds=data.stall_seconds,
            waiting=self._check_stop if self.group.count == 1 else lambda: None,
            rows=rows,
            readings=readings,
        )

    def _advance(self, stream: Batches) -> Advance:
        timed = Timed(stream, self.clock)
        if self._out_of_core:
            ahead = 0 if self._one_at_a_time else 1
            return out_of_core(self.experiment, timed, self._stop_now, ahead, self.group.count == 1)
        return in_core(self.experiment, timed)

    def _tell(self, metrics: Mapping[str, jax.Array], broken: int) -> Any:
        """The `Done.told` of a step; of several processes an array that is not waited for."""
        if self.group.count == 1:
            return broken, 0, 0
        if self._one_at_a_time:
            jax.block_until_ready(metrics)
        late = self.group.first and self.interval.late()
        return summed(self.experiment.mesh, [broken, bool(self.stop.requested), late])

    def _save_what_is_done(self, step: int, start: int, state: TrainState) -> None:
        # Of several processes one alone has nobody to save with; those who were asked to stop all have.
        together = self.group.count == 1 or self._asked_to_stop
        if step > start and together:
            with self.clock.spent("checkpoint"):
                self.checkpoints.save(step, state)

    def _pause_after(self, step: int) -> bool:
        return self._save_after(step) or self.evaluations.due(step)

    def _save_after(self, step: int) -> bool:
        """Whether a step is saved: one that is due, or may have to stay, or is the last one of this start."""
        late = self.interval.late() if self.group.count == 1 else self._asked_to_save
        keep = self.config.checkpoint
        stays = (keep.best and self.evaluations.due(step)) or (
            keep.keep_every and step % keep.keep_every == 0
        )
        due = late or stays or self.interval.due(step)
        return bool(due or step == self.config.steps or self._stopping)

    def _pause(self, state: TrainState, step: int) -> None:
        """Everything between two steps: the checkpoint, the evaluation, the end."""
        if self._save_after(step):
            with self.clock.spent("checkpoint"):
                self.checkpoints.save(step, state)
            self.interval.saved()
            self._asked_to_save = False
        if self._stopping:
            raise Stopped(self._signal)
        if step < self.config.steps:
            self.evaluations.figures(state, step)

    def _settle(self, done: Done, state: TrainState | None = None) -> None:
        """Reads a step's metrics, with what comes of them; raises NonFiniteLoss.

        state: of now; without it nothing is said of the records of a step that was skipped.
        """
        before = self.metrics.skipped
        line, stops, saves = self.metrics.settle(done)
        self.group.finished(done.step)
        self._asked_to_stop |= stops
        self._asked_to_save |= saves
        if self.metrics.skipped > before:
            of = f"{before + 1} of at most {self.config.skip_bad_steps}"
            blame = f"; {self.suspects.of_state(done.step, state)}" if state else ""
            if self.group.first:
                log.warning("step %d is skipped, %s: loss or gradient is not finite%s", done.step, of, blame)
        if line:
            self.evaluations.score(line)

    @property
    def _stopping(self) -> bool:
        """Whether a stop is asked for: in one process at once, in several as all know it from a step."""
        return bool(self.stop.requested) if self.group.count == 1 else self._asked_to_stop

    @property
    def _signal(self) -> str:
        return self.stop.requested or "a signal to another process"

    def _stop_now(self) -> str | None:
        """The signal to stop that any process has got; all ask here together."""
        if self.group.count > 1 and not self._asked_to_stop:
            told = summed(self.experiment.mesh, [bool(self.stop.requested)])
            self._asked_to_stop = int(jax.device_get(told)[0]) > 0
            self.group.finished()
        return self._signal if self._stopping else None

    def _check_stop(self) -> None:
        if signal := self._stop_now():
            raise Stopped(signal)
