"""The README's example runs and learns, in an environment of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.command
@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_the_loss_alone_in_ones_own_loop(devices, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    if devices > 1:  # "On a mesh nothing changes"
        code = code.replace(
            "texts = images[:, ::-1]\n",
            "mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))\n"
            "images = jax.device_put(images, jax.NamedSharding(mesh, jax.P('data')))\n"
            "texts = images[:, ::-1]\n",
        )
    code += f"\nassert images.sharding.num_devices == {devices}\nprint(float(value))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 2.0
