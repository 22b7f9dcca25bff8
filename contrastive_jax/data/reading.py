"""Reading ahead in a thread of its own, so that the wait for a batch can end without one."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from contrastive_jax.data.workers import signals_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS_BETWEEN_LOOKS = 0.05


class ReaderFailed(RuntimeError):  # noqa: N818
    """The data no longer comes: its reader hangs or has died. The message is one line that names it."""


class Ahead:
    """The elements of an iterator, taken from it by a thread that may hang and yet keeps nobody.

    Args:
        iterator: used, and closed, by the thread alone.
        ahead: elements that wait ready.
    """

    def __init__(self, iterator: Iterator[Any], ahead: int) -> None:
        self._iterator = iterator
        self._ready: queue.Queue[tuple[Any, Exception | None]] = queue.Queue(ahead)
        self._closed = threading.Event()
        # As a daemon: the interpreter would wait for another thread until it is through with its record.
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)

    def take(self, seconds: float, waiting: Callable[[], None]) -> tuple[Any, Exception | None]:
        """(the next element, None), or (None, what the iterator raised); TimeoutError after `seconds`.

        `waiting` is called many times a second meanwhile; what it raises ends the wait.
        """
        if self._closed.is_set():
            return None, StopIteration()
        if self._thread.ident is None:
            self._thread.start()
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._ready.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                waiting()
                if time.monotonic() > deadline:
                    raise TimeoutError(seconds) from None

    def close(self, seconds: float) -> bool:
        """Tells the thread to end, and whether it has within `seconds`."""
        self._closed.set()
        while not self._ready.empty():
            self._ready.get_nowait()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _read(self) -> None:
        with signals_blocked():
            while not self._closed.is_set():
                try:
                    self._ready.put((next(self._iterator), None))
                except Exception as error:
                    self._ready.put((None, error))
                    break
            self._closed.wait()
            self._iterator.close()
