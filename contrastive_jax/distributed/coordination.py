"""JAX's coordination service, which process 0 holds: what processes tell each other, and waiting for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

_SECONDS_OF_A_WAIT = 2.0  # so that a signal is noted meanwhile
_SECONDS_BETWEEN_WORDS = 600.0


class ProcessLost(RuntimeError):  # noqa: N818
    """Another process of the run has ended or cannot be reached; the message names it."""


def client() -> Any:
    """The runtime's client in this process: a key-value store and barriers."""
    # JAX has no public name for its key-value store and barriers; Orbax and others reach for it likewise.
    from jax._src import distributed

    return distributed.global_state.client


def wait_for(key: str, seconds: float | None, index: int, late: Callable[[], tuple[str, int]]) -> str:
    """What stands at a key of the store, once something does.

    Args:
      key: some process sets it.
      seconds: the longest wait; None waits without end, for a process that `Group.watch` watches.
      index: of this process.
      late: says who has not come where, as in "process 2 of 4 has not reached 'the end'", and the index of
        the process that is to warn of it while they wait.

    Raises:
      ProcessLost: nothing stands there in time, or the coordinator is gone.
    """
    begun = said = time.monotonic()
    while True:
        left = _SECONDS_OF_A_WAIT
        if seconds is not None:
            left = min(left, begun + seconds - time.monotonic())
        try:
            return client().blocking_key_value_get(key, max(int(left * 1000), 1))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise ProcessLost("process 0, the coordinator, cannot be reached") from error
            now = time.monotonic()
            if seconds is not None and now >= begun + seconds:
                raise ProcessLost(f"{late()[0]} for {seconds:.0f} s") from error
        if now >= said + _SECONDS_BETWEEN_WORDS:
            said, (who, speaker) = now, late()
            if index == speaker:
                log.warning("waiting: %s for %.0f s", who, now - begun)
