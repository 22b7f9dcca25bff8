"""Rates from a clock of which every second is known."""

import pytest
from small import experiment

from contrastive_jax.training.clock import Clock
from contrastive_jax.training.flops import step_flops
from contrastive_jax.training.pace import Pace


class Time:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def spend(clock, time, kind, seconds):
    with clock.spent(kind):
        time.seconds += seconds


@pytest.mark.parametrize("devices", [1, 4])
def test_rates_leave_out_what_is_no_step(devices):
    run = experiment(devices=devices, logging__peak_flops=1e12)
    time = Time()
    clock = Clock(time)
    time.seconds += 5.0  # start
    pace = Pace(run, clock)
    pace.begin(10)
    spend(clock, time, "input", 1.0)
    spend(clock, time, "step", 3.0)
    spend(clock, time, "checkpoint", 7.0)
    spend(clock, time, "evaluation", 9.0)
    line = pace.line(18)
    pairs = 8 * run.config.batch_size / 4.0
    flops = 8 * step_flops(run) / 4.0 / devices
    assert line["pairs_per_second"] == pytest.approx(pairs)
    assert line["pairs_per_second_per_device"] == pytest.approx(pairs / devices)
    assert line["flops_per_second_per_device"] == pytest.approx(flops)
    assert line["mfu"] == pytest.approx(flops / 1e12)
    assert line["goodput"] == pytest.approx(3 / 25)
    assert line["seconds/start"] == 5.0
    spend(clock, time, "step", 2.0)
    assert pace.line(19)["pairs_per_second"] == pytest.approx(run.config.batch_size / 2.0)


def test_a_device_without_known_figures_has_no_mfu():
    pace = Pace(experiment(), Clock(Time()))
    assert "mfu" not in pace.line(1)
