"""What more steps than a run began with do to what is scheduled over all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrastive_jax.training.experiment import Experiment

log = logging.getLogger(__name__)

_A_JUMP = 0.01  # as a part of the learning rate at its highest; and of a teacher's 1 - momentum


def totals(extra: Mapping[str, Any], before: int | None, steps: int) -> list[int]:
    """The steps that a run was to have at its first start, and after each time it was extended; now as last.

    extra: of the restored checkpoint; before: what the work directory says, for a checkpoint that an earlier
    version has written.
    """
    found = list(extra.get("steps") or [before or steps])
    return found if found[-1] == steps else [*found, steps]


def jumps(experiment: Experiment, totals: list[int], start: int, skipped: int = 0) -> list[str]:
    """What of the schedules jumps between step `start` of the old total and the next one of the new.

    skipped: steps that the optimizer knows nothing of. A schedule that would have come to the same value has
    not jumped.
    """
    config, (before, now) = experiment.config, totals[-2:]
    old, new = config.optimizer.schedule(before, totals[0]), config.optimizer.schedule(now, totals[0])
    last, following = max(start - 1 - skipped, 0), start - skipped
    found = []
    if abs(float(new(following)) - float(old(following))) > _A_JUMP * config.optimizer.learning_rate:
        found.append(f"the learning rate goes from {float(old(last)):.2g} to {float(new(following)):.2g}")
    for name, teacher in config.teachers.items():
        m = [float(teacher.momentum_at(step, total)) for step, total in ((start - 1, before), (start, now))]
        if abs(m[1] - float(teacher.momentum_at(start, before))) > _A_JUMP * (1 - teacher.momentum):
            found.append(f"the momentum of teacher {name!r} from {m[0]:.4g} to {m[1]:.4g}")
    return found


def tell(experiment: Experiment, totals: list[int], start: int, skipped: int = 0) -> None:
    """Warns in one line, before the first step, of what jumps where a run has been extended."""
    if len(totals) < 2 or not (found := jumps(experiment, totals, start, skipped)):
        return
    optimizer, before = experiment.config.optimizer, totals[-2]
    if optimizer.decay == "constant":
        down = optimizer.cooldown_steps
        began = before - (round(optimizer.cooldown * before) if down is None else down)
        advice = f"to go on from before the cool-down put checkpoints after step {began} away first"
    else:
        advice = (
            "begin a run that is to be extended with optimizer.decay='constant' and a cooldown, or give "
            "these weights to another --workdir as init_from"
        )
    log.warning("%d steps in place of %d: %s; %s", totals[-1], before, ", ".join(found), advice)
