"""What accelerators can do at most, as their makers state it."""

from __future__ import annotations

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
    """Figures of one chip, as JAX sees it: one device.

    kind: how JAX's `device_kind` begins. flops: bfloat16 with float32 sums, dense, a second. memory: bytes
    that a program can have; bandwidth: of that memory, bytes a second. link: bytes a second that one link
    to a neighbour carries in one direction; links: how many of them a collective over one mesh axis uses.
    """

    name: str
    kind: str
    flops: float
    memory: int
    bandwidth: float
    link: float
    links: int


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "TPU v4", 275e12, int(30.75 * GIB), 1.2e12, 5e10, 2),
        Chip("v5e", "TPU v5 lite", 197e12, int(15.75 * GIB), 8.19e11, 5e10, 2),
        Chip("v5p", "TPU v5", 459e12, int(95.74 * GIB), 2.765e12, 1e11, 2),
        Chip("v6e", "TPU v6 lite", 918e12, int(31.25 * GIB), 1.64e12, 1.12e11, 2),
        Chip("A100", "NVIDIA A100", 312e12, 80 * 10**9, 2.039e12, 3e11, 1),
        Chip("H100", "NVIDIA H100", 989e12, 80 * 10**9, 3.35e12, 4.5e11, 1),
        Chip("H200", "NVIDIA H200", 989e12, 141 * 10**9, 4.8e12, 4.5e11, 1),
    )
}
"""TPUs: cloud.google.com/tpu/docs, a page a version ("System architecture"): peak compute, HBM bandwidth, and
interchip bandwidth (2,400, 1,600, 4,800 and 3,584 Gbit/s a chip) over 6, 4, 6 and 4 links; a collective over
one axis of the torus uses the two along it. Memory is what libtpu 0.0.42's compiler gives a program of the
32, 16, 95 and 32 GB there. GPUs: NVIDIA's data sheets of the SXM boards; a link is all of NVLink, one way.
"""


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a JAX device by its `device_kind`; None for one without figures here, as a CPU."""
    begins = [chip for chip in CHIPS.values() if device_kind.startswith(chip.kind)]
    return max(begins, key=lambda chip: len(chip.kind), default=None)
