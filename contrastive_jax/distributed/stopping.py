"""Stopping on request: a signal is noted, and the training loop acts on it between two steps."""

from __future__ import annotations

import signal
import threading
from multiprocessing import resource_tracker
from types import FrameType
from typing import Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """Notes SIGTERM (preemption), SIGINT (Ctrl-C) and SIGHUP (a lost connection) while it is open.

    ```
    with StopRequest() as stop:
        while step < steps and not stop.requested:
            ...
        save()
    ```
    SIGHUP stays ignored where it is (`nohup`). The first signal only sets `requested`; a SIGINT after a
    first SIGINT ends the process at once, by the default action of the kernel, so also in the middle of a
    compilation. Keep it open until the last save has been written. On leaving, the earlier handlers are put
    back. Only the main thread may install handlers: in any other one this does nothing and `requested`
    stays None.
    """

    def __init__(self) -> None:
        self._requested: str | None = None
        self._previous: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> str | None:
        """Name of the first signal received (`"SIGTERM"`, `"SIGINT"` or `"SIGHUP"`), or None."""
        return self._requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            _start_tracker()
            for number in STOP_SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requested = self._requested or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _start_tracker() -> None:
    """Python's tracker of shared memory ignores SIGTERM and SIGINT by itself, but not a lost connection."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is ignored stays so in a new process
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)
