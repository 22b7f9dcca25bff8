"""`export`: what is written of a run, and what is refused."""

import json
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from contrastive_jax.configuration import build, load
from contrastive_jax.errors import InputError
from contrastive_jax.interop.names import flatten
from contrastive_jax.training.evaluations import bind_tokenizer
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.exporting import check_exports
from contrastive_jax.training.trained import open_trained

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture
def export(in_process, small, tmp_path):
    """(exit code, JSON, stderr) of an export of the small run, and the folder it went to."""
    output = tmp_path / "out"

    def run(*arguments):
        line = ("export", "--workdir", str(small / "run"), "--output", str(output), "--json", *arguments)
        code, out, err = in_process(*line)
        return code, json.loads(out or "{}"), err

    return run, output


@pytest.mark.parametrize("step", [2, 4])
def test_every_parameter_of_the_step_that_was_asked_for(export, small, step):
    run, output = export
    code, said, _ = run("--format", "safetensors", "--step", str(step))
    own = flatten(jax.device_get(open_trained(small / "run", step).params))
    assert (code, said["step"], said["tensors"]) == (0, step, len(own))
    stored = load_file(output / "model.safetensors")
    assert set(stored) == set(own)
    for name, array in own.items():
        np.testing.assert_array_equal(stored[name], array)
    page = (output / "README.md").read_text()
    assert f"- step: {step}" in page
    assert "- scale of the cosines: 10" in page
    assert json.loads((output / "config.json").read_text())["encoders"]["image"]["patch"] == 8
    assert (output / "tokenizer.json").read_text() == (small / "run" / "tokenizer.json").read_text()


def test_what_the_format_cannot_hold_is_said_in_one_line(export):
    run, output = export
    code, said, err = run("--format", "huggingface")
    assert (code, said) == (2, {})
    (line,) = [line for line in err.splitlines() if line.startswith("contrastive-jax:")]
    assert "huggingface (CLIPModel) cannot hold this model: " in line
    for words in ("encoders.image.pooling='mean' (it wants 'cls')", "encoders.text.causal=False"):
        assert words in line
    assert not output.exists()


@pytest.mark.parametrize("format", ["safetensors", "jax"])
def test_a_full_disk_leaves_nothing_behind(export, little_room, format):
    run, output = export
    with little_room(3000):
        code, said, err = run("--format", format)
    assert (code, said) == (1, {})
    (line,) = [line for line in err.splitlines() if line.startswith("contrastive-jax:")]
    assert line.startswith(f"contrastive-jax: --output {output}: ")
    assert list(output.parent.iterdir()) == []
    assert run("--format", format)[0] == 0


KILLED = """
import os, signal, sys
from contrastive_jax import cli
from contrastive_jax.interop import {module}
{module}.{name} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("module", "name"), [("writing", "card"), ("writing", "_settle"), ("flat", "write_json")]
)
def test_a_kill_leaves_nothing_to_be_seen_and_the_same_command_goes_on(export, small, module, name):
    run, output = export
    line = ["export", "--workdir", str(small / "run"), "--output", str(output), "--format", "safetensors"]
    code = KILLED.format(module=module, name=name)
    done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not output.exists()
    assert (output.parent / ".out.partial").exists()
    assert run("--format", "safetensors")[0] == 0
    assert [entry.name for entry in output.parent.iterdir()] == ["out"]


def test_a_branch_alone(export, small):
    run, _ = export
    code, said, err = run("--format", "jax", "--branch", "image")
    assert code == 0, err
    assert said["branches"] == ["image"]
    code, _, err = run("--format", "jax", "--branch", "imgae")
    assert code == 2
    assert "--branch: branch 'imgae' is unknown; did you mean image?" in err


CHECKED = """    bert = dict(kind="bert", vocabulary=200, length=16, width=16, depth=1, heads=2, mlp=32)
    config.encoders.text = dict(bert, size="micro", pooling="mean", types=1)
"""


@pytest.mark.parametrize(
    ("formats", "words"),
    [
        (("safetensors", "jax"), ()),
        (("sentence-transformers:text",), ()),
        (("safetensors", "huggingface"), ("config.export=huggingface: huggingface (CLIPModel) cannot hold",)),
        (("open_clip",), ("config.export=open_clip: ", "encoders.image.pooling='mean'")),
        (("sentence-transformers:image",), ("config.export=sentence-transformers:image", "has none")),
        (("jax:imgae",), ("config.export=jax:imgae: branch 'imgae' is unknown; did you mean image?",)),
    ],
)
def test_whether_a_model_can_be_exported_is_known_before_the_first_step(small, tmp_path, formats, words):
    text = (small / "config.py").read_text()
    if formats[0].startswith("sentence-transformers:text"):
        text = text.replace("    config.branches", f"{CHECKED}    config.branches")
    file = tmp_path / "config.py"
    file.write_text(text)
    stored = load(str(file), [("export", str(formats))], Config)
    experiment = Experiment(build(stored, Config), jax.devices()[:1])
    views = bind_tokenizer(experiment, tmp_path, train=True)
    if not words:
        check_exports(experiment, views, tmp_path)
        return
    with pytest.raises(InputError) as error:
        check_exports(experiment, views, tmp_path)
    for word in words:
        assert word in str(error.value)


def test_a_run_whose_model_cannot_be_exported_ends_before_its_first_step(in_process, small, tmp_path):
    line = ["train", "--config", str(small / "config.py"), "--workdir", str(tmp_path / "run")]
    code, _, err = in_process(*line, "--config.export=('huggingface',)")
    assert code == 2
    assert "contrastive-jax: config.export=huggingface: huggingface (CLIPModel) cannot hold this model" in err
    assert not list((tmp_path / "run").glob("checkpoints/[0-9]*"))
