"""`contrastive-jax plan`: what it answers, and one line for every wrong input."""

import importlib.util
import json
import sys

import pytest
from refusals import CONFIGS, GLYPHS, refused

PLAN = ["plan", "--config", GLYPHS]
LINES = [
    (["plan"], "required: --config"),
    (["plan", "--confg", GLYPHS], "did you mean --config?"),
    ([*PLAN, "--topolgy", "v5e:2x2"], "did you mean --topology?"),
    ([*PLAN, "--topology"], "--topology: expected one argument"),
    ([*PLAN, "--topology", "v5:2x2"], "--topology v5:2x2 is unknown; known: v4:2x2x1", "v6e:1x1, 2x2"),
    ([*PLAN, "--topology", "v5e:3x3"], "--topology v5e:3x3 is unknown; known: v5e:1x1, 2x2", "16x16"),
    ([*PLAN, "--topology", ""], "is unknown; known:"),
    ([*PLAN, "--topology", "v5e:2x2", "--devices", "4"], "--topology and --devices: give one of them"),
    ([*PLAN, "--devices", "0"], "argument --devices", "'0'"),
    ([*PLAN, "--devices", "4097"], "--devices 4097: give up to 4096"),
    ([*PLAN, "--devices", "many"], "argument --devices", "'many'"),
    ([*PLAN, "--serch"], "did you mean --search?"),
    ([*PLAN, "more"], "unknown argument 'more'", "contrastive-jax plan --help"),
    ([*PLAN, "--config.steps"], "--config.steps needs a value"),
    ([*PLAN, "--devices", "4", "--config.stepz=3"], "--config.stepz=3: unknown key; did you mean steps?"),
    (["plan", "--config", f"{CONFIGS}/glyph.py", "--devices", "4"], "no such file"),
    ([*PLAN, "--devices", "4", "--config.mesh.fsdp=3"], "config.mesh", "does not multiply to 4 devices"),
    ([*PLAN, "--devices", "3"], "config.batch_size=64 does not divide over 3 devices"),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line[0][3:]) or "-")
def test_wrong_input(line, in_process):
    arguments, *words = line
    refused(in_process(*arguments), *words)


def test_without_the_tpu_compiler(in_process, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else there(name))
    refused(in_process(*PLAN, "--topology", "v5e:2x2"), "pip install 'contrastive-jax[plan]'", "--devices N")


def test_a_plan_for_virtual_devices_as_json(in_process, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    code, out, err = in_process(*PLAN, "--devices", "4", "--config.mesh.fsdp=2", "--json")
    assert code == 0, err
    assert len(out.splitlines()) == 1
    found = json.loads(out)
    assert set(found) >= {"programs", "chips", "chip_bytes", "fits", "step_seconds", "mfu"}
    assert (found["chips"], found["fits"], found["topology"]) == (4, True, None)
    assert found["mesh"] == {"data": 2, "fsdp": 2, "tensor": 1}
    (program,) = found["programs"]
    names = {
        "name",
        "argument_bytes",
        "output_bytes",
        "temp_bytes",
        "total_bytes",
        "flops",
        "collective_bytes",
    }
    assert set(program) >= {*names, "seconds"}


OUT_OF_CORE = ["--config.mode=out_of_core", "--config.microbatch=8", "--config.losses.clip.label_smoothing=0"]


@pytest.mark.slow
def test_a_table_for_people(in_process, monkeypatch):
    """Also of several programs."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    code, out, err = in_process(*PLAN, "--devices", "2", *OUT_OF_CORE)
    assert code == 0, err
    for word in ("embed", "loss", "pull_back", "update", "temporaries", "all-reduce", "fits: "):
        assert word in out


def test_a_failure_says_what_the_compiler_said(in_process, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--no_such_flag")
    code, out, err = in_process(*PLAN, "--devices", "2")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "no_such_flag" in err


def test_the_parent_needs_no_jax():
    """It starts at once, and its signals stay its own."""
    import subprocess

    code = "import sys, contrastive_jax.commands.plan\nprint('jax' in sys.modules, 'numpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"
    )


@pytest.mark.slow
@pytest.mark.command
def test_a_search(command):
    line = [*PLAN, "--devices", "2", "--json"]
    code, out, err = command(*line, "--search")
    assert code == 0, err
    found = json.loads(out)
    assert found["fits"]
    keys = {
        "microbatch",
        "mesh.data",
        "mesh.fsdp",
        "mesh.tensor",
        "encoders.image.remat",
        "encoders.text.remat",
    }
    assert {one.partition("=")[0] for one in found["overrides"]} == {f"--config.{key}" for key in keys}
    assert " - fits: " in err
    code, out, err = command(*line, *found["overrides"])
    assert code == 0, err
    assert json.loads(out)["peak_bytes"] == found["peak_bytes"]
