"""Names of TPU slices, such as v5p:8x8x16."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from contrastive_jax.distributed.chips import CHIPS, Chip
from contrastive_jax.errors import InputError

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = (
    "2x2x1",
    "2x2x2",
    "2x2x4",
    "2x4x4",
    "4x4x4",
    "4x4x8",
    "4x8x8",
    "8x8x8",
    "8x8x16",
    "8x16x16",
    "16x16x16",
)
SLICES = {"v4": _CUBIC, "v5e": _FLAT, "v5p": _CUBIC, "v6e": _FLAT}
LARGEST = {"v4": 4096, "v5p": 8960}  # chips in a pod


class Topology(NamedTuple):
    """A TPU slice: its chips in two or three dimensions."""

    chip: Chip
    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.sizes))}"

    @property
    def chips(self) -> int:
        return math.prod(self.sizes)

    @classmethod
    def parse(cls, text: str) -> Topology:
        """`chip:AxB` or `chip:AxBxC`; InputError, with what is known, for anything else."""
        name, _, shape = text.partition(":")
        if name not in SLICES:
            known = "; ".join(f"{chip}:{', '.join(shapes)}" for chip, shapes in SLICES.items())
            raise InputError(f"--topology {text} is unknown; known: {known}")
        if shape not in SLICES[name] and not _multiple_of_cubes(name, shape):
            further = ", or three multiples of 4 in ascending order" if name in LARGEST else ""
            raise InputError(
                f"--topology {text} is unknown; known: {name}:{', '.join(SLICES[name])}{further}"
            )
        return cls(CHIPS[name], tuple(map(int, shape.split("x"))))

    def devices(self) -> list[Any]:
        """The devices of the slice, which are not there: programs are compiled for them and not run.

        libtpu takes over the signals of the process that calls this.
        """
        from jax.experimental import topologies

        options: dict[str, Any] = {}
        if self.chip.name == "v4":
            options["chip_config_name"] = "megacore"  # the two cores of a chip as one device, as on a slice
        if self.chips == 1:
            options["chips_per_host_bounds"] = (1, 1, 1)
        found = topologies.get_topology_desc(topology_name=str(self), platform="tpu", **options)
        return list(found.devices)


def _multiple_of_cubes(name: str, shape: str) -> bool:
    if name not in LARGEST or not re.fullmatch(r"[0-9]{1,3}x[0-9]{1,3}x[0-9]{1,3}", shape):
        return False
    sizes = [int(size) for size in shape.split("x")]
    whole = all(size and size % 4 == 0 for size in sizes)
    return whole and sizes == sorted(sizes) and math.prod(sizes) <= LARGEST[name]
