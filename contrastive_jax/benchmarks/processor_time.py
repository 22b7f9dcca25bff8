"""Seconds of processor time that a process and its descendants have used."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path


def tree_seconds(pid: int, without: Collection[int] = ()) -> float | None:
    """User and system time of a process, its living descendants, and those that they have waited for.

    Args:
        pid: of the process.
        without: descendants that do not count, nor theirs.

    Returns:
        Seconds, in steps of a clock tick (1/100 s); None on a system without /proc.
    """
    parents, ticks = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            content = (folder / "stat").read_text()
        except OSError:  # it has ended
            continue
        # The name in parentheses may hold anything; after it come the state and the parent.
        fields = content[content.rindex(")") + 2 :].split()
        parents[int(folder.name)] = int(fields[1])
        ticks[int(folder.name)] = sum(map(int, fields[11:15]))
    if pid not in ticks:
        return None
    total = sum(count for each, count in ticks.items() if _belongs(each, pid, parents, without))
    return total / os.sysconf("SC_CLK_TCK")


def _belongs(pid: int, to: int, parents: dict[int, int], without: Collection[int]) -> bool:
    while pid != to:
        if pid in without or pid not in parents:
            return False
        pid = parents[pid]
    return True
