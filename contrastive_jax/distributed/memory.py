"""Bytes that a compiled program needs on each device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jax.stages import Compiled


def footprint(compiled: Compiled) -> dict[str, int]:
    """Of its arguments, results and temporaries; total = arguments + results - aliased + temporaries.

    Aliased are results that take the place of donated arguments.
    """
    found = compiled.memory_analysis()
    sizes = {
        "temp_bytes": found.temp_size_in_bytes,
        "argument_bytes": found.argument_size_in_bytes,
        "output_bytes": found.output_size_in_bytes,
        "alias_bytes": found.alias_size_in_bytes,
    }
    return {**sizes, "total_bytes": sum(sizes.values()) - 2 * sizes["alias_bytes"]}
