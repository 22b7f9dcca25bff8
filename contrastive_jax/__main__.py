"""Where the installed command begins: Ctrl-C ends it quietly from here on, and to the interpreter's end."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def command() -> int:
    """Runs the command line; the exit code."""
    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _unraisable
    try:
        from contrastive_jax.cli import main

        return main()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, _end)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt; in the middle of an import, which few libraries survive, it ends at once."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _unraisable(found: "sys.UnraisableHookArgs") -> None:
    """An interrupt that met a callback of C, out of which nothing can be raised, ends the command as well."""
    if found.exc_type is KeyboardInterrupt:
        os._exit(INTERRUPTED)
    sys.__unraisablehook__(found)


if __name__ == "__main__":
    sys.exit(command())
