"""Taking turns at the clock: what disturbs the machine disturbs every contender alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def clock(function: Callable[[], Any]) -> Callable[[], float]:
    """Seconds of one call, to the end of what it computes."""

    def run() -> float:
        began = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - began

    return run


def interleave(contenders: Mapping[str, Callable[[], float]], runs: int) -> dict[str, float]:
    """The fewest seconds of each: `runs` rounds, in each of which every contender runs once.

    A contender returns the seconds that it took; the first round, which warms up, does not count. Every
    second round goes backwards, so that none always runs after the same other one.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(runs + 1):
        for name in names if round_ % 2 else reversed(names):
            taken = contenders[name]()
            if round_:
                seconds[name].append(taken)
    return {name: min(taken) for name, taken in seconds.items()}
