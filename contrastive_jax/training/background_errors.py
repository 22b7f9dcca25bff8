"""Silence about errors in Orbax's background: they are raised too, and then told in one line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any


def told_once() -> None:
    """Keeps what is printed of an error of Orbax beside the error itself from stderr; may be repeated.

    Orbax logs a traceback of each. On a full disk the first failed write ends its event loop: of the
    others asyncio logs that nobody has asked for them, and TensorStore, which finds the loop closed, has
    Python print that.
    """
    for name, news in (("absl", _not_of_orbax), ("asyncio", _not_of_its_writes)):
        logger = logging.getLogger(name)
        if news not in logger.filters:
            logger.addFilter(news)
    if not isinstance(sys.unraisablehook, _ExceptClosedLoops):
        sys.unraisablehook = _ExceptClosedLoops(sys.unraisablehook)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return not (record.levelno == logging.ERROR and "orbax/checkpoint/_src" in record.pathname)


def _not_of_its_writes(record: logging.LogRecord) -> bool:
    told = record.getMessage()
    return not ("never retrieved" in told and ("orbax/checkpoint" in told or "No space left" in told))


class _ExceptClosedLoops:
    """`sys.unraisablehook` without what asyncio raises for an event loop that is closed."""

    def __init__(self, hook: Callable[[Any], None]) -> None:
        self._hook = hook

    def __call__(self, unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            self._hook(unraisable)
