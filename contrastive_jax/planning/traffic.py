"""Bytes that a device moves to and from its main memory, read from the text of a compiled program."""

from __future__ import annotations

import math
import re
from collections import Counter

from contrastive_jax.planning.hlo import Instruction, Module, arrays, elements, total

# Nothing is moved by these themselves: names for what is there, control flow, and ends of what was begun.
_STILL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"}
_STILL |= {"after-all", "partition-id", "replica-id", "iota", "opt-barrier", "optimization-barrier"}
_SLICES = ("dynamic-slice", "slice", "gather")
_ON_CHIP = re.compile(r"S\([1-9]\d*\)")  # a memory space that is not the main one


def moved_bytes(module: Module) -> int:
    """Every operand is read and every result written once by the instruction or fusion that has it.

    Of what is sliced or updated in place only the slice counts; what the compiler keeps in on-chip memory
    does not. Loops and conditionals count as for the collectives.
    """

    def count(line: Instruction, computation: str) -> Counter:
        if line.opcode in _STILL or line.opcode.endswith(("-done", "-update")):
            return Counter()
        if '"AllocateBuffer"' in line.rest:
            return Counter()
        lines = module.computations[computation]
        operands = [_main(lines[name].shape) if name in lines else 0 for name in line.operands]
        return Counter({"bytes": _of_line(module, line, operands)})

    return int(total(module, count, enter_fusions=False)["bytes"])


def _of_line(module: Module, line: Instruction, operands: list[int]) -> int:
    if line.opcode == "fusion" and line.called:
        return _of_fusion(module, line, operands)
    if line.opcode in _SLICES:
        return 2 * _main(line.shape)
    if line.opcode == "dynamic-update-slice":
        return 2 * operands[1]
    if line.opcode == "copy-start":
        return operands[0] + _main(elements(line.shape)[0])
    if line.opcode == "slice-start":
        return 2 * _main(elements(line.shape)[1])
    if line.opcode.endswith("-start"):
        return 2 * sum(operands)
    return sum(operands) + _main(line.shape)


def _of_fusion(module: Module, line: Instruction, operands: list[int]) -> int:
    """An operand of which slices alone are read counts as these; a result updated in place, as its update."""
    moved = sum(min(whole, _read(module, line.called[0], at)) for at, whole in enumerate(operands) if whole)
    body, result = module.computations.get(line.called[0], {}), _main(line.shape)
    for inner in body.values():
        if inner.opcode == "dynamic-update-slice" and inner.operands[1] in body:
            whole, update = _size(inner.shape), _size(body[inner.operands[1]].shape)
            if result >= whole and _leaves(body, inner):
                result += update - whole
    return moved + result


def _read(module: Module, computation: str, number: int) -> float:
    """Bytes of a fused computation's parameter that are read; infinity for all of it."""
    body = module.computations.get(computation, {})
    lines = (line for line in body.values() if line.opcode == "parameter")
    given = next((line for line in lines if line.rest.startswith(f"{number})")), None)
    return _used(module, body, given) if given else math.inf


def _used(module: Module, body: dict[str, Instruction], given: Instruction) -> float:
    total = 0.0
    for user in body.values():
        places = [at for at, name in enumerate(user.operands) if name == given.name]
        if not places:
            continue
        if user.opcode == "bitcast":
            total += _used(module, body, user)
        elif user.opcode == "fusion" and user.called:
            total += sum(_read(module, user.called[0], at) for at in places)
        elif user.opcode in _SLICES and places == [0]:
            total += _size(user.shape)
        elif user.opcode != "dynamic-update-slice" or places != [0]:
            return math.inf
    return total


def _leaves(body: dict[str, Instruction], line: Instruction) -> bool:
    """Whether a fusion's instruction is a result of it."""
    if line.is_root:
        return True
    users = (user for user in body.values() if line.name in user.operands)
    return any(user.opcode in ("tuple", "bitcast") and _leaves(body, user) for user in users)


def _size(shape: str) -> int:
    return sum(size for size, _ in arrays(shape))


def _main(shape: str) -> int:
    """Bytes of the arrays of a shape that lie in main memory."""
    return sum(size for size, layout in arrays(shape) if not _ON_CHIP.search(layout))
