"""Another microbatch, remat and mesh for a config: the cheapest of those that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from contrastive_jax.errors import InputError

Overrides = dict[str, str]


def cheapest(
    measure: Callable[[Overrides], dict[str, Any]],
    least: Callable[[Overrides], tuple[float, bool]],
    groups: list[list[Overrides]],
    tell: Callable[[Overrides, dict[str, Any] | str], None],
) -> tuple[Overrides, dict[str, Any]] | None:
    """The overrides with the least predicted time of a step, and their figures; None if nothing fits.

    measure: overrides to the figures of `plan`, after a compilation; least: to (a bound that no plan can
    be cheaper than, whether it can fit at all), without one. groups: lists of overrides, of which each
    list goes from the cheapest to what needs the least memory, so the first that fits ends it. tell: what
    became of each. Overrides that do not suit the config (InputError) are passed over.
    """
    best: tuple[Overrides, dict[str, Any]] | None = None
    for group in groups:
        for overrides in group:
            try:
                bound, can_fit = least(overrides)
                if not can_fit:
                    tell(overrides, "its arguments alone do not fit")
                    continue
                if best is not None and bound >= cost(best[1]):
                    tell(overrides, "cannot be cheaper than what is found")
                    break
                found = measure(overrides)
            except InputError as error:
                tell(overrides, str(error))
                continue
            tell(overrides, found)
            if not found["fits"]:
                continue
            if best is None or cost(found) < cost(best[1]):
                best = overrides, found
            break
    return best


def cost(figures: Mapping[str, Any]) -> float:
    """Seconds of a step; on devices without stated figures, its FLOPs."""
    if figures["step_seconds"] is not None:
        return figures["step_seconds"]
    return sum(program["runs"] * program["flops"] for program in figures["programs"])


def candidates(
    batch_size: int, chips: int, remat_keys: list[str], microbatch: int | None
) -> list[list[Overrides]]:
    """Groups of overrides: for every remat and mesh, microbatches from the largest to the smallest.

    remat_keys: dotted keys of the encoders that can recompute their blocks; microbatch: the config's own.
    """
    groups = []
    for remat in ("False", "True") if remat_keys else ("",):
        for mesh in meshes(chips):
            fixed = {f"mesh.{axis}": str(size) for axis, size in mesh.items()}
            fixed |= dict.fromkeys(remat_keys, remat)
            sizes = microbatches(batch_size // chips, microbatch)
            groups.append([{**fixed, "microbatch": str(size)} for size in sizes])
    return groups


def meshes(chips: int) -> Iterator[dict[str, int]]:
    """Copies on every chip; parameters shared by about the square root of all chips; by all."""
    middle = 1
    while middle * middle * 4 <= chips and chips % (middle * 2) == 0:
        middle *= 2
    for fsdp in dict.fromkeys((1, middle, chips)):
        yield {"data": chips // fsdp, "fsdp": fsdp, "tensor": 1}


def microbatches(share: int, now: int | None) -> list[int]:
    """Divisors of a device's examples: 8, 32, 128, 512, all of them if they are few, and the config's own."""
    sizes = {size for size in (8, 32, 128, 512, now, share if share <= 512 else None) if size}
    return sorted((size for size in sizes if share % size == 0), reverse=True)
