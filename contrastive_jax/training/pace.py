"""How fast a run goes: rates of the steps, and where the time of the run went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive_jax.distributed.chips import chip_of
from contrastive_jax.training.clock import Clock
from contrastive_jax.training.flops import step_flops

if TYPE_CHECKING:
    from contrastive_jax.training.experiment import Experiment

_OF_STEPS = ("step", "repeated", "input", "other")


class Pace:
    """The rates of a run, from its clock.

    Pairs a second, of all devices and of one; model FLOPs a second of a device; and as a part of what the
    device can do, model FLOPs utilisation: "mfu". That takes `config.logging.peak_flops`, or a device
    that `distributed.chips` knows. Checkpoints and evaluations are not in the rates.

    Source: Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B, for MFU.
    """

    def __init__(self, experiment: Experiment, clock: Clock) -> None:
        self._clock, self._batch = clock, experiment.config.batch_size
        self._devices = experiment.mesh.size
        self._flops = step_flops(experiment)
        chip = chip_of(experiment.mesh.devices.flat[0].device_kind)
        self._peak = experiment.config.logging.peak_flops or (chip and chip.flops)
        self._step = 0

    def begin(self, step: int) -> None:
        """Counts from here, after `step` updates."""
        self._step = step

    def line(self, step: int) -> dict[str, float]:
        """The metrics since the last line, at `step` updates."""
        spent = self._clock.interval()
        seconds = max(sum(spent[f"seconds/{kind}"] for kind in _OF_STEPS), 1e-9)
        steps, self._step = step - self._step, step
        rate = steps * self._batch / seconds
        flops = steps * self._flops / seconds / self._devices
        values = {
            "pairs_per_second": rate,
            "pairs_per_second_per_device": rate / self._devices,
            "flops_per_second_per_device": flops,
        }
        return values | ({"mfu": flops / self._peak} if self._peak else {}) | spent
