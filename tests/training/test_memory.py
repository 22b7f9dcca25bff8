"""A batch that does not fit: what its step takes in core by the compiler, and out of core."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from small import experiment

from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.training.experiment import Experiment

# 32,768 pictures of 192 x 192 are 1.2 GB; the model is small, so that little else takes room.
LARGE = {
    "batch_size": 32768,
    "microbatch": 256,
    "steps": 1,
    "data__sampler__repeat": True,
    "data__views__image__size": 192,
    "encoders__image__patch": 64,
    "logging__tensorboard": False,
}

PROGRAM = """
import sys
from pathlib import Path
import jax
sys.path.insert(0, sys.argv[1])
from test_memory import most_memory, run_of
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.training.loop import Run

run = Run(run_of("out_of_core"), Path(sys.argv[2]), StopRequest())
jax.block_until_ready(jax.numpy.zeros(1))
before = most_memory()
run()
print(before, most_memory())
"""


def run_of(mode):
    run = experiment(mode=mode, **LARGE)
    return Experiment(dataclasses.replace(run.config, evaluation=None), jax.devices()[:1])


def most_memory():
    """The most memory that this process has had so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the memory of a process in /proc")
def test_a_batch_that_does_not_fit_in_core_trains_out_of_core(tmp_path):
    """The budget is what the step in core takes with the same microbatch, inputs and temporaries together."""
    run = run_of("in_core")
    size, rows = run.config.batch_size, by_example(run.mesh)
    views = {
        name: jax.ShapeDtypeStruct((size, *view.structure().shape), view.structure().dtype, sharding=rows)
        for name, view in run.config.data.views.items()
    }
    fields = {name: jax.ShapeDtypeStruct((size,), np.int32, sharding=rows) for name in run.fields}
    with jax.set_mesh(run.mesh):
        lowered = run.train_step().lower(run.state_structure, {"views": views, "fields": fields})
    taken = lowered.compile().memory_analysis()
    budget = taken.argument_size_in_bytes + taken.temp_size_in_bytes
    assert budget > 1.2e9
    environment = {**os.environ, "CONTRASTIVE_JAX_CACHE": str(tmp_path / "glyphs")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    print(f"in core {budget / 2**20:.0f} MiB, out of core {(after - before) / 2**20:.0f} MiB")
    assert after - before < budget / 2
