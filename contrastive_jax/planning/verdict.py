"""What a config needs of its devices, whether they have it, and how long a step takes at least."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import jax

from contrastive_jax.distributed.chips import Chip, chip_of
from contrastive_jax.planning.compilation import compiled
from contrastive_jax.planning.roofline import ASSUMPTIONS, seconds
from contrastive_jax.planning.work import work
from contrastive_jax.training.flops import step_flops
from contrastive_jax.training.programs import device_bytes, programs
from contrastive_jax.training.trainable import size

if TYPE_CHECKING:
    from contrastive_jax.training.experiment import Experiment


def plan(experiment: Experiment, chip_bytes: int | None = None) -> dict[str, Any]:
    """The figures of every program of a step, and of the step.

    chip_bytes: memory of a device; None asks the device itself. A program's bytes are a device's, its FLOPs
    those of one run on all devices, recomputation included; `runs` is how often a step runs it, and what
    `seconds` are of one run. Times and `mfu` are None for devices without stated figures. `mfu`: the share
    of the peak that the model's FLOPs take, nothing computed twice counted.
    """
    device, chips = experiment.mesh.devices.flat[0], experiment.mesh.size
    chip = chip_of(device.device_kind)
    chip_bytes = chip_bytes or memory_of(device, chips)
    found = [compiled(program, experiment.mesh) for program in programs(experiment)]
    for figures in found:
        figures |= _timed(figures, chip, chips)
    peak = max(figures["total_bytes"] + (figures["resident_bytes"] or 0) for figures in found)
    model = step_flops(experiment)
    complete = all(figures["seconds"] is not None for figures in found)
    step = sum(figures["runs"] * figures["seconds"] for figures in found) if complete else None
    config, params = experiment.config, experiment.state_structure.params
    return {
        "programs": found,
        "chip": chip.name if chip else device.device_kind,
        "chips": chips,
        "chip_bytes": chip_bytes,
        "peak_bytes": peak,
        "fits": peak <= chip_bytes and all(figures["argument_bytes"] is not None for figures in found),
        "mesh": dict(experiment.mesh.shape),
        "batch_size": config.batch_size,
        "microbatch": config.microbatch,
        "mode": config.mode,
        "parameters": size(params),
        "frozen_parameters": size(experiment.trainable.split(params)[1]),
        "model_flops": model,
        "step_seconds": step,
        "mfu": model / (step * chips * chip.flops) if step else None,
        "assumptions": list(ASSUMPTIONS) if chip else [],
    }


def bound(experiment: Experiment, chip_bytes: int | None = None) -> tuple[float, bool]:
    """(what no plan of it can cost less than, whether it can fit), without compiling anything.

    The cost is in seconds of a step; on devices without stated figures in its FLOPs.
    """
    device, mesh = experiment.mesh.devices.flat[0], experiment.mesh
    chip, needed = chip_of(device.device_kind), programs(experiment)
    total = 0.0
    for program in needed:
        with jax.set_mesh(mesh):
            found = work(program.function.trace(*program.arguments).jaxpr.jaxpr)
        total += program.runs * (found.passes / (mesh.size * chip.flops) if chip else found.flops)
    available = chip_bytes or memory_of(device, mesh.size)
    return total, all(device_bytes(program.live) <= available for program in needed)


def memory_of(device: jax.Device, devices: int) -> int:
    """Bytes that a device here has; virtual CPU devices share the machine's."""
    if device.platform == "cpu":
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // devices
    stats = device.memory_stats() or {}
    chip = chip_of(device.device_kind)
    return stats.get("bytes_limit") or (chip.memory if chip else 0)


def _timed(figures: dict[str, Any], chip: Chip | None, chips: int) -> dict[str, float | None]:
    """The times of a program; None without a chip's figures, or where the compiler gave up."""
    if chip is None or figures["moved_bytes"] is None:
        return dict.fromkeys(("compute_seconds", "memory_seconds", "link_seconds", "seconds"))
    return seconds(figures, chip, chips)
