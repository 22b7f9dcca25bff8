"""The processors at hand."""

import os


def cores() -> int:
    """Processors that this process may use at once; all of them where the system does not say (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
