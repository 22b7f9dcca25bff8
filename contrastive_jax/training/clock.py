"""Where the wall time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

KINDS = ("start", "input", "step", "repeated", "checkpoint", "evaluation", "other")


@dataclass
class Span:
    """A stretch of time of one kind, without what was spent in spans inside it; `kind` may be changed
    until the span is left."""

    kind: str
    seconds: float = 0.0


class Clock:
    """Splits the wall time since it was made by what it was spent on.

    ```
    clock = Clock()                             # first thing in the command
    ...
    with clock.spent("step"):
        state, metrics = step(state, batch)
        with clock.spent("input"):              # is not counted as "step"
            batch = next(stream)
    line = clock.interval()                     # {"goodput": 0.93, "seconds/step": 1.2, ...}
    ```
    Kinds: `step`, training steps that bring the run further; `repeated`, steps that an earlier process
    had done and lost; `input`, waiting for a batch; `checkpoint`, the loop blocked by saving;
    `evaluation`; `start`, all that is in no span before the first step (imports, opening sources,
    restoring, compiling); `other`, all that is in no span after it. They sum to the wall time.

    **Goodput** is the share of the wall time since the clock was made that was `step`. So a start, a
    restore, a compilation and repeated steps lower it; the time between two processes is in neither.

    For one thread, apart from `doing`. now: seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = now()
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self._before = dict(self._seconds)
        self._ahead = dict.fromkeys(KINDS, 0.0)
        self._ground = Span("start")
        self._open: list[Span] = []

    @contextmanager
    def spent(self, kind: str) -> Iterator[Span]:
        """Counts the time inside as `kind`, one of `KINDS`."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of time; known: {', '.join(KINDS)}")
        self._tick()
        if self._ground.kind == "start" and kind in ("step", "repeated"):
            self._seconds["start"] += self._ground.seconds
            self._ground = Span("other")
        span = Span(kind)
        self._open.append(span)
        try:
            yield span
        finally:
            self._tick()
            self._open.pop()
            self._seconds[span.kind] += span.seconds

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """What is spent inside is for a step that is begun before the one before it is told of: it belongs to
        the interval after the next one that is asked for, unless `caught_up` is called first."""
        before = self.seconds()
        try:
            yield
        finally:
            self._ahead = {kind: seconds - before[kind] for kind, seconds in self.seconds().items()}

    def caught_up(self) -> None:
        """What was spent `ahead` is spent on the step that is told of next."""
        self._ahead = dict.fromkeys(KINDS, 0.0)

    @property
    def doing(self) -> str:
        """The kind that the time is counted as now; for any thread."""
        return (self._open[-1:] or [self._ground])[0].kind

    def seconds(self) -> dict[str, float]:
        """Seconds of each kind so far; open spans count as what they are called now."""
        self._tick()
        seconds = dict(self._seconds)
        for span in (self._ground, *self._open):
            seconds[span.kind] += span.seconds
        return seconds

    def goodput(self) -> float:
        """The share of all time so far that was `step`, 0 to 1."""
        seconds = self.seconds()
        return seconds["step"] / max(sum(seconds.values()), 1e-9)

    def interval(self) -> dict[str, float]:
        """Metrics by name: `goodput` so far, and `seconds/<kind>` since this was last called, without what is
        spent `ahead`."""
        seconds = {kind: seconds - self._ahead[kind] for kind, seconds in self.seconds().items()}
        since = {f"seconds/{kind}": seconds[kind] - self._before[kind] for kind in KINDS}
        self._before = seconds
        return {"goodput": self.goodput(), **since}

    def _tick(self) -> None:
        now = self._now()
        (self._open[-1] if self._open else self._ground).seconds += now - self._last
        self._last = now


class Timed:
    """An iterator whose waits a clock counts as `input`."""

    def __init__(self, stream: Iterator[Any], clock: Clock) -> None:
        self._stream, self._clock = stream, clock

    def __iter__(self) -> Timed:
        return self

    def __next__(self) -> Any:
        with self._clock.spent("input"):
            return next(self._stream)
