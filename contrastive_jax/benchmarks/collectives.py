"""Bytes that a device sends, read from the text of a compiled program."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("collective-permute", "all-gather", "reduce-scatter", "all-reduce", "all-to-all")
_BITS = {"pred": 8, "bf16": 16, "token": 0}

_COMPUTATION = re.compile(r"^(ENTRY )?%?(\S+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?\S+ = (\(?.*?\)?) ([a-z][\w-]*)\((.*)$")
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|condition|calls|to_apply)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}|\b(?:true|false)_computation=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class _Instruction(NamedTuple):
    shape: str
    opcode: str
    rest: str


def sent_bytes(program: str, devices: int) -> dict[str, int]:
    """{kind of collective: bytes that one device sends} of an optimised HLO module.

    With g devices in a group and n bytes of its largest array, a device sends n for a
    collective-permute, n (g - 1) / g for an all-gather, a reduce-scatter or an all-to-all, and twice that
    for an all-reduce: what the ring algorithms send, the least that is possible. A loop's body counts as
    often as the loop runs, once where the compiler does not know how often. Of a conditional's branches
    the one that sends least counts: what a fallback would send is not what a step sends.
    """
    computations, entry = _computations(program)
    cache: dict[str, Counter] = {}

    def visit(name: str) -> Counter:
        if name not in cache:
            cache[name] = Counter()  # a name that is not there sends nothing
            for instruction in computations.get(name, ()):
                cache[name] = cache[name] + one(instruction)
        return cache[name]

    def one(instruction: _Instruction) -> Counter:
        kind = instruction.opcode.removesuffix("-start")
        if kind in ("async-done", "async-update"):
            return Counter()  # they name again what async-start calls
        if kind in KINDS:
            return Counter({kind: _sent(kind, instruction, devices)})
        branches = [visit(name) for name in _branches(instruction.rest)]
        found = min(branches, key=lambda sent: sent.total(), default=Counter())
        trips = _TRIPS.search(instruction.rest) if instruction.opcode == "while" else None
        for called in _CALLED.findall(instruction.rest):
            for kind, size in visit(called).items():
                found = found + Counter({kind: size * (int(trips[1]) if trips else 1)})
        return found

    return dict(visit(entry))


def _computations(program: str) -> tuple[dict[str, list[_Instruction]], str]:
    computations, entry, current = {}, "", []
    for line in program.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif found := _INSTRUCTION.match(line):
            current.append(_Instruction(*found.groups()))
    return computations, entry


def _branches(rest: str) -> Iterator[str]:
    for many, single in _BRANCHES.findall(rest):
        for name in [single] if single else many.split(","):
            yield name.strip().removeprefix("%")


def _sent(kind: str, instruction: _Instruction, devices: int) -> int:
    shape, rest = instruction.shape, instruction.rest
    if instruction.opcode in ("all-gather-start", "collective-permute-start"):
        shape = _elements(shape)[1]  # (operands, results, ...)
    size, group = _bytes(shape), _group(rest, devices)
    if kind == "collective-permute":
        return size
    whole = size * group if kind == "reduce-scatter" else size
    return whole * (group - 1) // group * (2 if kind == "all-reduce" else 1)


def _group(rest: str, devices: int) -> int:
    """Devices in one of the groups: {{0,1},{2,3}}, [groups,devices]<=..., or {} for all in one."""
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(iota[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    return len(listed[1].split(",")) if listed else devices


def _elements(shape: str) -> list[str]:
    """The elements of a tuple's shape."""
    parts, depth = [""], 0
    for letter in shape[1:-1]:
        depth += (letter in "({[") - (letter in ")}]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _bytes(shape: str) -> int:
    total = 0
    for dtype, sizes in _ARRAY.findall(shape):
        bits = _BITS.get(dtype) if dtype in _BITS else int(re.search(r"\d+", dtype)[0])
        for size in filter(None, sizes.split(",")):
            bits *= int(size)
        total += bits // 8
    return total
