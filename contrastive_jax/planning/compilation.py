"""One program compiled for devices that need not be there, and what the compiler says of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jax

from contrastive_jax.distributed.memory import footprint
from contrastive_jax.planning.collectives import sent_bytes
from contrastive_jax.planning.hlo import Module
from contrastive_jax.planning.traffic import moved_bytes
from contrastive_jax.planning.work import work
from contrastive_jax.training.programs import Program, device_bytes

if TYPE_CHECKING:
    from jax.sharding import Mesh

_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_USED = re.compile(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm")
_TEMPORARIES = re.compile(r"HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds")
_ALLOCATION = re.compile(r"allocat\w* ([\d.]+) ?([KMGT]?)i?B", re.IGNORECASE)


def compiled(program: Program, mesh: Mesh) -> dict[str, Any]:
    """Bytes a device, FLOPs of one run on all devices, bytes that a device moves and sends.

    Where the compiler itself runs out of the chip's memory, `total_bytes` is what it says it wants and the
    other bytes are None.
    """
    with jax.set_mesh(mesh):  # nothing may be computed here: these devices may not be there
        traced = program.function.trace(*program.arguments)
        lowered = traced.lower()
    needed = work(traced.jaxpr.jaxpr)
    found = {"name": program.name, "runs": program.runs, "flops": needed.flops, "passes": needed.passes}
    try:
        result = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        wanted = wanted_bytes(str(error), device_bytes(program.arguments))
        if wanted is None:
            raise
        unknown = ("argument", "output", "alias", "temp", "resident", "moved")
        return (
            found
            | dict.fromkeys([f"{what}_bytes" for what in unknown])
            | {
                "total_bytes": wanted,
                "collective_bytes": {},
            }
        )
    sizes = footprint(result)
    module = Module(result.as_text())
    return (
        found
        | sizes
        | {
            "resident_bytes": max(device_bytes(program.live) - sizes["argument_bytes"], 0),
            "moved_bytes": moved_bytes(module),
            "collective_bytes": sent_bytes(module, mesh.size),
        }
    )


def wanted_bytes(message: str, arguments: int = 0) -> int | None:
    """What a program wants of a chip, by the compiler's report that it is too much; None of other errors.

    arguments: their bytes, which the reports on temporaries alone leave out.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    for pattern, more in ((_USED, 0), (_TEMPORARIES, arguments), (_ALLOCATION, arguments)):
        if found := pattern.search(message):
            return int(float(found[1]) * _UNITS[found[2]]) + more
    return None
