"""Worker processes that outlive the signals meant for their parent, but not their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from contrastive_jax.distributed.stopping import STOP_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS_TO_ANSWER = 1.0


class Lifeline:
    """A local socket that workers hold on to: when it goes, so do they; and they can be asked through it.

    A killed parent cannot tell its workers to stop, and Grain's own way of closing leaves out those
    that have not delivered yet; either would leave processes behind that ignore SIGTERM.

    Args:
        workers: how many will hold on; with 0 there is no socket.
    """

    def __init__(self, workers: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=workers) if workers else None
        self.address: tuple[str, int] | None = self._socket and self._socket.getsockname()
        self._held: dict[int, tuple[int, socket.socket]] = {}

    def ask(self, index: int) -> tuple[int | None, str | None]:
        """(process id, what it is at) of a worker; None for what it does not tell within a second."""
        self._accept()
        pid, held = self._held.get(index, (None, None))
        answer = ""
        if held:
            with contextlib.suppress(OSError):
                held.sendall(b"?")
                answer = held.recv(1024).decode()
        return pid, answer.strip() if answer else None

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # there is none more, or the socket is closed
            self._socket.settimeout(0)
            while True:
                held, _ = self._socket.accept()
                held.settimeout(_SECONDS_TO_ANSWER)
                with contextlib.suppress(OSError, ValueError):
                    index, pid = held.recv(64).decode().split()
                    self._held[int(index)] = int(pid), held

    def cut(self, kill: bool = False) -> None:
        """Ends every worker that still holds on; with `kill` those too that are stopped by a signal."""
        if not self._socket:
            return
        if kill:
            self._accept()
            for child in multiprocessing.active_children():
                if child.pid in {pid for pid, _ in self._held.values()}:
                    child.kill()
        self._socket.close()
        for _, held in self._held.values():
            held.close()


def start_worker(lifeline: tuple[str, int], whereabouts: Callable[[], str], index: int, count: int) -> None:
    """Runs first in a worker: the parent alone decides when it ends.

    Args:
        lifeline: the address of the parent's `Lifeline`.
        whereabouts: answers what `Lifeline.ask` asks; called in a thread of its own.
        index: the worker's number, of `count`.
        count: see `index`; not used.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_hold, args=(lifeline, whereabouts, index), daemon=True).start()


def _hold(lifeline: tuple[str, int], whereabouts: Callable[[], str], index: int) -> None:
    try:
        with contextlib.suppress(OSError), socket.create_connection(lifeline) as held:
            held.sendall(f"{index} {os.getpid()}".encode())
            while held.recv(1):  # returns nothing when the parent is gone
                held.sendall(f"{whereabouts()}\n".encode())
    finally:
        os._exit(1)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Keeps SIGTERM, SIGINT and SIGHUP waiting, here and in the processes started meanwhile.

    A process takes a second to come up before it can ignore them, and a signal to the whole group would
    end it; this process gets its own when the block is left.
    """
    # Left to start with the first worker, it would unblock them again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
