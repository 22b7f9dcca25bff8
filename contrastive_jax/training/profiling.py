"""A trace of some steps of a run, as TensorBoard and Perfetto read them."""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple

import jax

from contrastive_jax.errors import CommandError, InputError
from contrastive_jax.training.stores.mirror import Mirror
from contrastive_jax.training.stores.paths import StorePath

log = logging.getLogger(__name__)


class Window(NamedTuple):
    """The steps to trace, start <= step < stop; a step is counted by the updates done before it."""

    start: int
    stop: int


def parse_window(text: str) -> Window:
    """`"10:15"` -> Window(10, 15), five steps.

    Raises:
        InputError: anything but two whole numbers, the second one larger.
    """
    parts = text.split(":")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
        raise InputError(f"--profile={text}: give start:stop in steps, such as 10:15 for 10 up to 14")
    window = Window(*map(int, parts))
    if window.start >= window.stop:
        raise InputError(
            f"--profile={text} holds no step: give a stop after the start, "
            f"such as {window.start}:{window.start + 5}"
        )
    return window


class Profiler:
    """Traces the steps of a window into a folder.

    ```
    profiler.check(first, last)
    for step in range(first, last):
        profiler.before(step)
        state, metrics = train_step(state, batch)
        profiler.after(step, metrics)
    profiler.close()
    ```
    Every traced step stands in the trace as `train` with its `step_num`. The folder gets, for each start of
    a trace, `plugins/profile/<time>/<host>.xplane.pb`, for `tensorboard --logdir` with its profile plugin,
    and `<host>.trace.json.gz`, for ui.perfetto.dev.

    Args:
        window: None for no trace; then every method does nothing.
        folder: made when a trace is written. Processes of one host need one each.
    """

    def __init__(self, window: Window | None, folder: str | os.PathLike[str] | StorePath) -> None:
        self.window, self.title = window, str(folder)
        self._mirror = Mirror(folder, ("plugins",)) if window and isinstance(folder, StorePath) else None
        self.folder = str(self._mirror.local) if self._mirror else self.title
        self._tracing = False
        self._annotation: jax.profiler.StepTraceAnnotation | None = None

    def check(self, first: int, last: int) -> None:
        """Says so in a line when not all of the window is in the steps first <= step < last."""
        if self.window is None:
            return
        start, stop = max(self.window.start, first), min(self.window.stop, last)
        asked = f"--profile={self.window.start}:{self.window.stop}"
        if start >= stop:
            log.warning("%s: nothing to trace, this process does the steps %d:%d", asked, first, last)
        elif (start, stop) != self.window:
            log.warning("%s: only %d:%d is traced, of what this process does", asked, start, stop)

    def before(self, step: int) -> None:
        """Before the step that follows `step` updates."""
        if self.window is None or not self.window.start <= step < self.window.stop:
            return
        if not self._tracing:
            try:
                os.makedirs(self.folder, exist_ok=True)
            except OSError as error:
                log.warning("no trace: %s", error)
                self.window = None
                return
            jax.profiler.start_trace(self.folder)
            self._tracing = True
        self._annotation = jax.profiler.StepTraceAnnotation("train", step_num=step)
        self._annotation.__enter__()

    def after(self, step: int, outputs: Any) -> None:
        """After that step; the last one's `outputs`, a tree of arrays, are waited for."""
        if self._annotation is None:
            return
        if step + 1 == self.window.stop:
            jax.block_until_ready(outputs)
        self._leave()
        if step + 1 == self.window.stop:
            self.close()

    def close(self) -> None:
        """Writes what has been traced; also in the middle of a window or of a step.

        A trace that cannot be written is said in a line and ends nothing.
        """
        self._leave()
        if self._tracing:
            self._tracing = False
            try:
                jax.profiler.stop_trace()
                if self._mirror:
                    self._mirror.push()
            except (RuntimeError, OSError, CommandError) as error:  # no reason to end a run
                log.warning("no trace in %s: %s", self.title, str(error).splitlines()[0])
            else:
                log.info("traced into %s: tensorboard --logdir %s", self.title, self.title)

    def _leave(self) -> None:
        if self._annotation is not None:
            annotation, self._annotation = self._annotation, None
            annotation.__exit__(None, None, None)
