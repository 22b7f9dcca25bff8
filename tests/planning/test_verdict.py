"""The verdict of a whole plan, and the time that a roofline allows."""

import jax
import pytest

from contrastive_jax.configuration import build, load
from contrastive_jax.distributed.chips import CHIPS
from contrastive_jax.planning import verdict
from contrastive_jax.planning.compilation import wanted_bytes
from contrastive_jax.planning.roofline import seconds
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.flops import step_flops


@pytest.fixture(scope="module")
def run(request):
    config = load(f"{request.config.rootpath}/configs/glyphs.py:small", [("mesh.fsdp", "2")], Config)
    return Experiment(build(config, Config), jax.devices())


@pytest.fixture(scope="module")
def here(run):
    return verdict.plan(run)


def test_devices_without_figures_have_bytes_and_no_times(here):
    assert here["step_seconds"] is here["mfu"] is here["programs"][0]["seconds"] is None
    assert 0 < here["peak_bytes"] < here["chip_bytes"]
    assert here["fits"]
    assert sum(here["programs"][0]["collective_bytes"].values()) > 0


def test_a_plan_of_a_known_chip(run, here, monkeypatch):
    chip = CHIPS["v5e"]
    monkeypatch.setattr(verdict, "chip_of", lambda kind: chip)
    monkeypatch.setattr(verdict, "compiled", lambda *_: dict(here["programs"][0]))
    found = verdict.plan(run, chip.memory)
    (program,) = found["programs"]
    assert (found["chips"], found["chip_bytes"], found["fits"]) == (8, chip.memory, True)
    assert found["step_seconds"] == program["seconds"] > 0
    assert found["model_flops"] == step_flops(run)
    # The first layer needs no gradient of its input; the losses' float32 products pass six times.
    assert program["flops"] == pytest.approx(step_flops(run), rel=0.05)
    assert program["passes"] > program["flops"]
    assert found["mfu"] == pytest.approx(step_flops(run) / (program["seconds"] * 8 * chip.flops))
    assert found["assumptions"]
    assert not verdict.plan(run, found["peak_bytes"] - 1)["fits"]


def test_what_the_compiler_gave_up_on_never_fits(run, here, monkeypatch):
    unknown = dict.fromkeys(("argument_bytes", "resident_bytes", "moved_bytes"))
    monkeypatch.setattr(verdict, "compiled", lambda *_: {**here["programs"][0], **unknown, "total_bytes": 1})
    found = verdict.plan(run, 2**30)
    assert not found["fits"]
    assert found["step_seconds"] is None


def test_the_bound_is_below_the_plan_and_its_arguments_are_counted(run):
    cost, fits = verdict.bound(run)
    assert fits
    assert cost > 0
    assert not verdict.bound(run, 2**10)[1]


@pytest.mark.parametrize(
    ("figures", "slowest"),
    [
        (dict(passes=2e15, moved_bytes=1, collective_bytes={}), 2e15 / (4 * 197e12)),
        (dict(passes=1, moved_bytes=819e9, collective_bytes={}), 1.0),
        (dict(passes=1, moved_bytes=1, collective_bytes={"all-gather": 1e11}), 1.0),
        (
            dict(passes=1, moved_bytes=1, collective_bytes={"collective-permute": 1e11, "all-reduce": 1e11}),
            3.0,
        ),
    ],
)
def test_the_slowest_part_is_the_time(figures, slowest):
    assert seconds(figures, CHIPS["v5e"], 4)["seconds"] == pytest.approx(slowest)


REPORTS = {
    "Ran out of memory on HBM, the total memory required for HLO temporaries (256.00G) exceeds available HBM "
    "(15.75G).": 256 * 2**30,
    "XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 54.25G of 15.75G hbm. "
    "Exceeded hbm capacity by 38.50G.": int(54.25 * 2**30),
    "Out of memory while trying to allocate 12.50GiB.": int(12.5 * 2**30),
    "something else (1.00G)": None,
}


@pytest.mark.parametrize("report", REPORTS)
def test_the_compilers_own_report(report):
    assert wanted_bytes(f"RESOURCE_EXHAUSTED: {report}") == REPORTS[report]
    assert wanted_bytes(f"INTERNAL: {report}") is None


def test_reports_on_temporaries_alone_leave_out_the_arguments():
    temporaries, everything, *_ = REPORTS
    for report, more in ((temporaries, 5), (everything, 0)):
        assert wanted_bytes(f"RESOURCE_EXHAUSTED: {report}", 5) == REPORTS[report] + more
