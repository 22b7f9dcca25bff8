"""The least time that a program can take on a chip, from the chip's stated figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contrastive_jax.distributed.chips import Chip

ASSUMPTIONS = (
    "a program takes as long as the slowest of computing, memory and links, each at its stated peak and "
    "hidden behind the others: a real step takes longer",
    "computing: the products, evenly shared by the chips; float32 ones of highest precision pass 6 times "
    "through the matrix units, which otherwise multiply bfloat16",
    "memory: each result is written and each operand read once, by the compiled instruction that has it",
    "links: a collective uses the two links of one torus axis, a permutation one of them",
    "input, checkpoints, evaluation and the network between slices take no time",
)


def seconds(figures: Mapping[str, Any], chip: Chip, chips: int) -> dict[str, float]:
    """{"compute_seconds", "memory_seconds", "link_seconds", "seconds"} of one run of a compiled program."""
    sent = figures["collective_bytes"]
    permuted = sent.get("collective-permute", 0)
    compute = figures["passes"] / (chips * chip.flops)
    links = permuted / chip.link + (sum(sent.values()) - permuted) / (chip.link * chip.links)
    memory = figures["moved_bytes"] / chip.bandwidth
    return {
        "compute_seconds": compute,
        "memory_seconds": memory,
        "link_seconds": links,
        "seconds": max(compute, memory, links),
    }
