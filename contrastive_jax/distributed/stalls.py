"""A step that does not end: how each process notices that nothing goes on, and which of them is behind."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NamedTuple

_LONGER = 4  # times the longest step so far may take: reading and writing vary
_FIRST = 3  # times `stalled_seconds` the first step may take, in which devices find each other
_PYTHON = os.path.dirname(threading.__file__) + os.sep
_OWN = os.path.dirname(__file__) + os.sep


class Report(NamedTuple):
    """Where a process is.

    marks: what it has finished since its start, steps or parts of them, which all processes do in the same
    order; step: the one under way; doing: a kind of `Clock`; waits: whether for its devices, and so perhaps
    for another process; place: the line of code; stalled: whether for longer than it is allowed to be; looks:
    how often it has been looked at, which goes on while the interpreter does.
    """

    marks: int = 0
    step: int = 0
    doing: str = "step"
    waits: bool = False
    place: str = ""
    stalled: bool = False
    looks: int = 0

    @property
    def in_step(self) -> bool:
        """Whether its time is limited: not so that of starting, reading, checkpoints and evaluations."""
        return self.doing in ("step", "repeated")


class Pace:
    """How a process gets on: the training loop says what it has finished, another thread looks.

    seconds: a step may take so long; more where steps are longer than a quarter of it, and the first one
    three times as long. What is not a step (starting, reading, checkpoints, evaluations) may take any time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._marks, self._step = 0, 0
        self._doing: Callable[[], str] | None = None
        self._thread: int | None = None
        self._seen = self._looks = 0
        self._quiet = self._longest = 0.0

    def begin(self, step: int, doing: Callable[[], str]) -> None:
        """The calling thread begins with steps, after `step` of them; doing: what it does at a moment."""
        self._step, self._thread, self._doing = step, threading.get_ident(), doing

    def finished(self, step: int | None = None) -> None:
        """A step is finished on the devices too, or (None) a part that all did together."""
        self._marks += 1
        if step is not None:
            self._step = step

    @property
    def limit(self) -> float:
        """Seconds that the step under way may take."""
        return max(self._seconds * (1 if self._marks else _FIRST), _LONGER * self._longest)

    def look(self, seconds: float) -> Report | None:
        """Where this process is, `seconds` after the last look; None before its first step."""
        if self._doing is None:
            return None
        marks, doing = self._marks, self._doing()
        self._quiet += seconds
        if marks != self._seen:
            if self._seen:
                self._longest = max(self._longest, self._quiet)
            self._seen, self._quiet = marks, 0.0
        self._looks += 1
        report = Report(marks, self._step + 1, doing, looks=self._looks)
        if not report.in_step:
            self._quiet = 0.0
        if self._quiet:
            waits, place = _whereabouts(self._thread)
            report = report._replace(waits=waits, place=place, stalled=self._quiet > self.limit)
        return report

    @property
    def quiet(self) -> float:
        """Seconds that the step under way has taken."""
        return self._quiet


class Judge:
    """Whether all processes stand still, as one of them sees it from the reports of all."""

    def __init__(self) -> None:
        self._next = 0.0
        self._since: dict[int, tuple[Report, float]] = {}

    def due(self, now: float, limit: float) -> bool:
        """Whether to read all reports, which many processes should not do all the time."""
        if now < self._next:
            return False
        self._next = now + limit / 20
        return True

    def stalled(self, reports: Sequence[Report], now: float, limit: float) -> bool:
        """Whether no process gets on: each says so, or has said nothing for `limit` seconds, as one where a
        thread keeps the interpreter's lock."""
        still = True
        for index, report in enumerate(reports):
            before, since = self._since.get(index, (None, now))
            if report != before:
                self._since[index] = report, since = report, now
            still &= report.stalled or now - since > limit
        return still


def behind(reports: Sequence[Report]) -> list[int]:
    """The processes that the others wait for; all of them where none is behind."""
    reached = [(report.marks, report.waits) for report in reports]
    return [index for index, found in enumerate(reached) if found == min(reached)]


def verdict(reports: Sequence[Report], seconds: float, names: Callable[[list[int]], str]) -> str:
    """One line on a run that stands still; names: `process 2 (host-c) of 4` of some indices."""
    late, first = behind(reports), reports[behind(reports)[0]]
    found = (
        f"the processes have been at step {first.step} for {seconds:.0f} s, and none is behind the others "
        f"({first.place})"
    )
    if len(late) < len(reports):
        have = "have" if len(late) > 1 else "has"
        place = f" ({first.place})" if first.place else ""
        ahead = max(report.step for report in reports)
        others = f"have finished step {ahead - 1}" if ahead > first.step else "wait for it"
        found = (
            f"{names(late)} {have} been at step {first.step} for {seconds:.0f} s{place}, the others {others}"
        )
    return found


def end_if_locked(seconds: float | None) -> None:
    """Ends this process with exit code 1, and the lines of all threads, unless called again within `seconds`.

    For a thread that holds the interpreter's lock and never gives it up: no other one can run then.
    """
    with contextlib.suppress(Exception):  # standard error is no file, in a notebook
        faulthandler.cancel_dump_traceback_later()
        if seconds is not None:
            faulthandler.dump_traceback_later(seconds, exit=True)


def _whereabouts(thread: int | None) -> tuple[bool, str]:
    """Whether a thread waits for its devices, and its line of code, or that of a callback into Python."""
    import jax

    library = os.path.dirname(jax.__file__) + os.sep
    callback = os.path.join(library, "_src", "callback.py")
    stacks = {number: _outward(frame) for number, frame in sys._current_frames().items()}
    for stack in stacks.values():
        if any(frame.f_code.co_filename == callback for frame in stack):
            return False, _line(stack)
    stack = [frame for frame in stacks.get(thread, []) if not _of_python(frame)]
    waits = bool(stack) and stack[0].f_code.co_filename.startswith((library, _OWN))
    return waits, _line(stack)


def _outward(frame: FrameType | None) -> list[FrameType]:
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return stack


def _of_python(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(_PYTHON) and "site-packages" not in file


def _line(stack: Sequence[FrameType]) -> str:
    """`hooks.py:12 in sleep`: the innermost code that is not Python's own."""
    for frame in stack:
        if not _of_python(frame):
            code = frame.f_code
            return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}"
    return ""
