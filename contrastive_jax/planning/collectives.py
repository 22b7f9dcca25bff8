"""Bytes that a device sends, read from the text of a compiled program."""

from __future__ import annotations

import math
import re
from collections import Counter

from contrastive_jax.planning.hlo import Instruction, Module, arrays, elements, total

KINDS = ("collective-permute", "all-gather", "reduce-scatter", "all-reduce", "all-to-all")


def sent_bytes(program: str | Module, devices: int) -> dict[str, int]:
    """{kind of collective: bytes that one device sends} of an optimised HLO module.

    With g devices in a group and n bytes of its largest array, a device sends n for a
    collective-permute, n (g - 1) / g for an all-gather, a reduce-scatter or an all-to-all, and twice that
    for an all-reduce: what the ring algorithms send, the least that is possible. A loop's body counts as
    often as the loop runs, once where neither the compiler nor the loop's counter says how often. Of a
    conditional's branches the one that sends least counts: what a fallback would send is not what a step
    sends.
    """
    module = Module(program) if isinstance(program, str) else program

    def count(instruction: Instruction, computation: str) -> Counter:
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS or _goes_on(module, computation):
            return Counter()
        if computation.startswith("all-reduce-scatter"):  # an all-reduce of which each keeps a slice
            kind = "reduce-scatter"
            return Counter({kind: _sent("all-gather", instruction, devices)})
        return Counter({kind: _sent(kind, instruction, devices)})

    return dict(total(module, count, enter_fusions=True))


def _goes_on(module: Module, computation: str) -> bool:
    """Whether a fused computation only carries on, or ends, a collective that another one began."""
    calls = " ".join(line.rest for line in module.computations[computation].values())
    began = '"AsyncCollectiveStart"' in calls
    return not began and (
        computation.startswith("async_collective_fusion") or '"AsyncCollectiveDone"' in calls
    )


def _sent(kind: str, instruction: Instruction, devices: int) -> int:
    shape, rest = instruction.shape, instruction.rest
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        shape = elements(shape)[1]  # (operands, results, ...)
    size, group = sum(size for size, _ in arrays(shape)), _group(rest, devices)
    if kind == "collective-permute":
        return size
    whole = size * group if kind == "reduce-scatter" else size
    return whole * (group - 1) // group * (2 if kind == "all-reduce" else 1)


def _group(rest: str, devices: int) -> int:
    """Devices in one of the groups, however they are written.

    {{0,1},{2,3}}, [groups,devices]<=..., mesh['a'=2,'b'=4] {'b'}, or {} for all in one.
    """
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(iota[1])
    if mesh := re.search(r"replica_groups=@?mesh\w*\[([^\]]*)\] ?\{([^}]*)\}", rest):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    return len(listed[1].split(",")) if listed else devices
