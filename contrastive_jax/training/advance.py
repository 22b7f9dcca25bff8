"""One update from what the pipeline gives: in core as one program, out of core as several."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax

from contrastive_jax.distributed.memory import footprint
from contrastive_jax.distributed.rows import place
from contrastive_jax.training.programs import programs
from contrastive_jax.training.state import TrainState

if TYPE_CHECKING:
    from jax.stages import Compiled

    from contrastive_jax.training.experiment import Experiment

log = logging.getLogger(__name__)

Advance = Callable[[TrainState], tuple[TrainState, Mapping[str, jax.Array], int]]
_SECONDS_BETWEEN_LOOKS = 0.005


class Stopped(Exception):  # noqa: N818
    """A signal asked the run to stop; its state is saved."""


class StoppedInStep(Stopped):
    """It did so in the middle of a step, of which a program may still be under way."""


def in_core(experiment: Experiment, stream: Iterator[dict[str, Any]]) -> Advance:
    """state -> (state, metrics, broken records of this process); it consumes the state.

    The program is compiled here, before the first step, and what it takes of a device is logged.
    """
    step = _compiled(experiment)["train_step"]
    mesh, size = experiment.mesh, experiment.config.batch_size

    def advance(state):
        batch = next(stream)
        placed = {part: place(mesh, size, batch[part]) for part in ("views", "fields")}
        return *step(state, placed), int(batch["broken"])

    return advance


def out_of_core(
    experiment: Experiment,
    stream: Iterator[dict[str, Any]],
    stopping: Callable[[], str | None],
    ahead: int,
    alone: bool,
) -> Advance:
    """As `in_core`; raises StoppedInStep, with the state as it was, once `stopping` says so.

    ahead: see `OutOfCore`. alone: of several processes each asks only when a program is done, so that all
    ask equally often; one by itself need not wait for the end of a program, which may take minutes.
    """
    step = experiment.out_of_core_step.using(_compiled(experiment))

    def wait(output):
        while alone and not output.is_ready():
            if stopping():
                break
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if not alone:
            jax.block_until_ready(output)
        if reason := stopping():
            raise StoppedInStep(reason)

    return lambda state: step(state, stream, wait, ahead)


def _compiled(experiment: Experiment) -> dict[str, Compiled]:
    """The programs of a step by name, each with a line on the memory that it takes."""
    found = {}
    for program in programs(experiment):
        compiled = found[program.name] = program.function.lower(*program.arguments).compile()
        sizes = footprint(compiled)
        log.info(
            "%s takes %.1f MiB a device: arguments %.1f, results %.1f (of them %.1f in place of arguments), "
            "temporaries %.1f",
            program.name,
            *(sizes[f"{name}_bytes"] / 2**20 for name in ("total", "argument", "output", "alias", "temp")),
        )
    return found
