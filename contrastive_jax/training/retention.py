"""Which checkpoints of a run are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def surplus(
    steps: Sequence[int],
    keep: int | None,
    keep_every: int | None = None,
    scores: Mapping[int, float] | None = None,
    lowest: bool = False,
) -> list[int]:
    """The steps to remove: those that no rule keeps.

    Args:
      steps: those that there are, in order.
      keep: the newest so many stay; None keeps all.
      keep_every: multiples of it stay for good.
      scores: a number for each step that was measured; the best one stays, of equal ones the newest.
      lowest: the best score is the lowest.
    """
    if keep is None:
        return []
    kept = {*steps[-keep:], best(steps, scores or {}, lowest)}
    return [step for step in steps if step not in kept and not (keep_every and step % keep_every == 0)]


def best(steps: Sequence[int], scores: Mapping[int, float], lowest: bool = False) -> int | None:
    """The step with the highest score, or the lowest, of equal ones the newest; None where none has one."""
    measured = {step: -scores[step] if lowest else scores[step] for step in steps if step in scores}
    return max(measured, key=lambda step: (measured[step], step), default=None)
