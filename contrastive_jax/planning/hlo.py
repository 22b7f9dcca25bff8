"""The text of an optimised HLO module, taken apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

_BITS = {"pred": 8, "bf16": 16, "token": 0}
_COMPUTATION = re.compile(r"^(ENTRY )?%?(\S+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?(\S+) = (\(?.*?\)?) ([a-z][\w-]*)\((.*)$")
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_CALLED = re.compile(r"\b(?:body|condition|calls|to_apply)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}|\b(?:true|false)_computation=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_WHOLE = re.compile(r"^(-?\d+)\)")


class Instruction(NamedTuple):
    """One line; rest: everything after the opcode's bracket."""

    name: str
    shape: str
    opcode: str
    rest: str
    is_root: bool

    @property
    def operands(self) -> list[str]:
        """Names, where their shapes stand before them as well."""
        depth, end = 1, len(self.rest)
        for at, letter in enumerate(self.rest):
            depth += (letter in "({[") - (letter in ")}]")
            if depth == 0:
                end = at
                break
        return re.findall(r"%([\w.-]+)", self.rest[:end])

    @property
    def called(self) -> list[str]:
        """Computations that it runs, but for the branches of a conditional."""
        return _CALLED.findall(self.rest)

    @property
    def branches(self) -> Iterator[str]:
        for many, single in _BRANCHES.findall(self.rest):
            for name in [single] if single else many.split(","):
                yield name.strip().removeprefix("%")


class Module:
    """The computations of a program, {name: {instruction's name: instruction}}, in their order."""

    def __init__(self, text: str) -> None:
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                current = self.computations[head[2]] = {}
                self.entry = head[2] if head[1] else self.entry
            elif found := _INSTRUCTION.match(line):
                root, name, *rest = found.groups()
                current[name] = Instruction(name, *rest, bool(root))

    def trips(self, loop: Instruction, computation: str) -> int:
        """How often a loop runs: as the compiler noted, or as its counter says; once if neither does."""
        if known := _TRIPS.search(loop.rest):
            return int(known[1])
        condition = re.search(r"\bcondition=%?([\w.-]+)", loop.rest)
        lines = self.computations.get(condition[1], {}) if condition else {}
        root = next((line for line in lines.values() if line.is_root), None)
        if root is None or root.opcode != "compare" or "direction=LT" not in root.rest:
            return 1
        counter, bound = (lines.get(name) for name in root.operands)
        if counter is None or bound is None or counter.opcode != "get-tuple-element":
            return 1
        end = _constant(bound)
        start = self._start(loop, computation, int(re.search(r"index=(\d+)", counter.rest)[1]))
        return 1 if end is None else max(end - start, 1)

    def _start(self, loop: Instruction, computation: str, index: int) -> int:
        lines = self.computations[computation]
        given = lines.get(loop.operands[0]) if loop.operands else None
        if given is not None and given.opcode == "tuple" and index < len(given.operands):
            first = lines.get(given.operands[index])
            while first is not None and first.opcode in ("copy", "bitcast") and first.operands:
                first = lines.get(first.operands[0])
            return (first and _constant(first)) or 0
        return 0


def total(module: Module, count: Callable[[Instruction, str], Counter], enter_fusions: bool) -> Counter:
    """The sum of `count(instruction, its computation)` over what one run of the program does.

    A loop's body counts as often as it runs. Of a conditional's branches the least counts: what a fallback
    would do is not what a step does.
    """
    cache: dict[str, Counter] = {}

    def of(name: str) -> Counter:
        if name not in cache:
            cache[name] = Counter()  # a name that is not there does nothing
            for instruction in module.computations.get(name, {}).values():
                cache[name] = cache[name] + of_line(instruction, name)
        return cache[name]

    def of_line(line: Instruction, name: str) -> Counter:
        if line.opcode in ("async-done", "async-update"):
            return Counter()  # they name again what async-start calls
        branches = [of(branch) for branch in line.branches]
        found = count(line, name) + min(branches, key=lambda one: one.total(), default=Counter())
        if line.opcode == "fusion" and not enter_fusions:
            return found
        times = module.trips(line, name) if line.opcode == "while" else 1
        for called in line.called:
            found = found + Counter({key: times * value for key, value in of(called).items()})
        return found

    return of(module.entry)


def arrays(shape: str) -> Iterator[tuple[int, str]]:
    """(bytes, layout) of each array in a shape."""
    for dtype, sizes, layout in _ARRAY.findall(shape):
        bits = _BITS.get(dtype) if dtype in _BITS else int(re.search(r"\d+", dtype)[0])
        for size in filter(None, sizes.split(",")):
            bits *= int(size)
        yield bits // 8, layout


def elements(shape: str) -> list[str]:
    """The elements of a tuple's shape."""
    parts, depth = [""], 0
    for letter in shape[1:-1]:
        depth += (letter in "({[") - (letter in ")}]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _constant(line: Instruction) -> int | None:
    found = _WHOLE.match(line.rest) if line.opcode == "constant" else None
    return int(found[1]) if found else None
