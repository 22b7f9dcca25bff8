"""What programs take of a machine, and what it has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from jax.stages import Compiled


def footprint(compiled: Compiled) -> dict[str, int]:
    """Bytes that a compiled program needs on each device: its temporaries, arguments and results."""
    found = compiled.memory_analysis()
    return {
        "temp_bytes": found.temp_size_in_bytes,
        "argument_bytes": found.argument_size_in_bytes,
        "output_bytes": found.output_size_in_bytes,
    }


def free_bytes(device: jax.Device) -> int | None:
    """Bytes that a device can still give; None where nobody tells. CPU devices share the machine's."""
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
