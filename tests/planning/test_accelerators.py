"""Plans against the accelerators themselves, or their own compiler."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contrastive_jax.distributed.chips import CHIPS

CONFIGS = Path(__file__).parents[2] / "configs"
REMAT = ["--config.encoders.image.remat=True", "--config.encoders.text.remat=True"]


ANY_DEVICE = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
on_tpus = [
    pytest.mark.slow,
    pytest.mark.tpu_compiler,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install '.[plan]'"
    ),
]


def plan(config: str, *arguments: str) -> dict:
    """By the real command."""
    code = "import sys; from contrastive_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    line = [sys.executable, "-c", code, "plan", "--config", f"{CONFIGS}/{config}", *arguments, "--json"]
    done = subprocess.run(line, env=ANY_DEVICE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestWithTheCompilerOfTPUs:
    pytestmark = on_tpus

    def test_a_million_pairs_take_four_gigabytes_of_a_chip(self):
        found = plan(
            *("clip.py:size=B/16", "--topology", "v5e:16x16", "--config.batch_size=1048576"),
            *("--config.microbatch=128", "--config.mesh.fsdp=16", *REMAT),
        )
        (program,) = found["programs"]
        assert program["total_bytes"] <= 4e9
        assert found["fits"]
        assert found["chips"] == 256
        assert 0.2 < found["mfu"] < 1

    def test_every_program_of_a_thousand_million_pairs_fits_a_chip(self):
        found = plan(
            *("clip.py:size=B/16", "--topology", "v5p:8x8x16", f"--config.batch_size={2**30}"),
            *("--config.mode=out_of_core", "--config.microbatch=256", *REMAT),
        )
        assert [program["name"] for program in found["programs"]][1:4] == ["embed", "loss", "pull_back"]
        assert max(program["total_bytes"] for program in found["programs"]) <= 95e9
        assert found["fits"]

    def test_what_the_compiler_refuses_does_not_fit(self):
        found = plan(
            *("clip.py:size=Ti/16", "--topology", "v6e:4x4", "--config.batch_size=262144"),
            "--config.mesh.fsdp=8",  # across a part of a 4 x 4 slice's second axis
        )
        assert not found["fits"]
        assert found["peak_bytes"] > found["chip_bytes"] == CHIPS["v6e"].memory
        assert found["step_seconds"] is None


ON_A_GPU = """
import json, sys
import jax
from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.configuration import build, load
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.training.experiment import Config, Experiment

overrides = [tuple(one.removeprefix("--config.").split("=", 1)) for one in sys.argv[2:]]
run = Experiment(build(load(sys.argv[1], overrides, Config), Config))
with jax.set_mesh(run.mesh):
    batch = jax.device_put(made_up_batch(run), by_example(run.mesh))
    jax.block_until_ready(run.train_step()(run.initial_state(), batch))
print(json.dumps(jax.devices()[0].memory_stats()["peak_bytes_in_use"]))
"""


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="there is no GPU here")
def test_a_gpu_takes_what_is_planned():
    """Within a tenth of what its allocator had to give at most."""
    overrides = ["--config.batch_size=256", "--config.microbatch=64"]
    (program,) = plan("clip.py:size=S/16", *overrides)["programs"]
    line = [sys.executable, "-c", ON_A_GPU, f"{CONFIGS}/clip.py:size=S/16", *overrides]
    environment = {**ANY_DEVICE, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert program["total_bytes"] == pytest.approx(json.loads(done.stdout.splitlines()[-1]), rel=0.1)
