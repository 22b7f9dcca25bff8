"""Worker processes that outlive the signals meant for their parent, but not their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Lifeline:
    """A local socket that workers hold on to: when it goes, so do they.

    A killed parent cannot tell its workers to stop, and Grain's own way of closing leaves out those
    that have not delivered yet; either would leave processes behind that ignore SIGTERM.

    Args:
        workers: how many will hold on; with 0 there is no socket.
    """

    def __init__(self, workers: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=workers) if workers else None
        self.address: tuple[str, int] | None = self._socket and self._socket.getsockname()

    def cut(self) -> None:
        """Ends every worker that still holds on."""
        if self._socket:
            self._socket.close()


def start_worker(lifeline: tuple[str, int], index: int, count: int) -> None:
    """Runs first in a worker: the parent alone decides when it ends.

    Args:
        lifeline: the address of the parent's `Lifeline`.
        index: the worker's number, of `count`; not used.
        count: see `index`.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_hold, args=(lifeline,), daemon=True).start()


def _hold(lifeline: tuple[str, int]) -> None:
    with contextlib.suppress(OSError), socket.create_connection(lifeline) as held:
        held.recv(1)  # nothing is ever sent: it returns when the parent is gone
    os._exit(1)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Keeps SIGTERM and SIGINT waiting, here and in the processes started meanwhile.

    A process takes a second to come up before it can ignore them, and a signal to the whole group would
    end it; this process gets its own when the block is left.
    """
    # Left to start with the first worker, it would unblock them again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
