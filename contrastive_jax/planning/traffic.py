"""Bytes that a device moves to and from its main memory, read from the text of a compiled program."""

from __future__ import annotations

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

    return total(module, count, enter_fusions=False)["bytes"]


def _of_line(module: Module, line: Instruction, operands: list[int]) -> int:
    if line.opcode == "fusion" and line.called:
        return _of_fusion(module.computations.get(line.called[0], {}), line, operands)
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


def _of_fusion(body: dict[str, Instruction], line: Instruction, operands: list[int]) -> int:
    """An operand of which slices alone are read counts as these; a result updated in place, as its update."""
    users: dict[str, list[Instruction]] = {}
    for inner in body.values():
        for name in inner.operands:
            users.setdefault(name, []).append(inner)
    moved, result = 0, _main(line.shape)
    for inner in body.values():
        if inner.opcode == "parameter":
            number = int(inner.rest.partition(")")[0])
            whole = operands[number] if number < len(operands) else 0
            moved += _read(inner.name, whole, users.get(inner.name, []))
        elif inner.opcode == "dynamic-update-slice" and inner.operands[1] in body:
            whole, update = _size(inner.shape), _size(body[inner.operands[1]].shape)
            if result >= whole and _leaves(body, inner.name, users):
                result += update - whole
    return moved + result


def _read(name: str, whole: int, users: list[Instruction]) -> int:
    """Bytes of a fusion's operand that its users read."""
    slices = 0
    for user in users:
        if user.operands[0] != name or name in user.operands[1:]:
            return whole
        if user.opcode in _SLICES:
            slices += _size(user.shape)
        elif user.opcode != "dynamic-update-slice":
            return whole
    return min(whole, slices)


def _leaves(body: dict[str, Instruction], name: str, users: dict[str, list[Instruction]]) -> bool:
    """Whether a fusion's instruction is a result of it."""
    line = body[name]
    if line.is_root:
        return True
    return any(u.opcode in ("tuple", "bitcast") and _leaves(body, u.name, users) for u in users.get(name, []))


def _size(shape: str) -> int:
    return sum(size for size, _ in arrays(shape))


def _main(shape: str) -> int:
    """Bytes of the arrays of a shape that lie in main memory."""
    return sum(size for size, layout in arrays(shape) if not _ON_CHIP.search(layout))
