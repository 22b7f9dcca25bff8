"""How often a run saves: every so many steps, or every so many minutes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from contrastive_jax.errors import InputError

STEPS, MINUTES = 500, 15.0
"""Of a config that says nothing: whichever comes first, so that long steps are not lost by the hundred."""

_MINUTES = re.compile(r"(\d+(?:\.\d+)?) ?min")


class SaveInterval:
    """When a checkpoint belongs after a step.

    Args:
      every: a number of steps; a number of minutes, such as "15min"; None: `STEPS` or `MINUTES`.
      now: seconds that never go back.

    Raises:
      InputError: it is neither, or not more than nothing.
    """

    def __init__(self, every: int | str | None, now: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._minutes = _steps_and_minutes(every)
        self._now = now
        self.saved()

    def due(self, step: int) -> bool:
        """Whether a checkpoint belongs after `step` updates, whatever the clock says."""
        return self._steps is not None and step % self._steps == 0

    def late(self) -> bool:
        """Whether the last one was too long ago, by the clock of this process."""
        return self._minutes is not None and self._now() - self._since >= 60 * self._minutes

    def saved(self) -> None:
        """Counts the minutes from now."""
        self._since = self._now()


def _steps_and_minutes(every: int | str | None) -> tuple[int | None, float | None]:
    if every is None:
        return STEPS, MINUTES
    if isinstance(every, int) and every >= 1:
        return every, None
    given = _MINUTES.fullmatch(str(every))
    if not given or not float(given[1]):
        raise InputError(
            f"config.checkpoint.every={every}: give a number of steps, 1 or more, or of minutes, as 15min"
        )
    return None, float(given[1])
