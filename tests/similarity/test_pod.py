"""The loss at pod scale, compiled by the TPU's own compiler for a slice that is not there."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tpu_compiler,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install '.[plan]'"
    ),
]


@pytest.mark.parametrize(
    ("name", "batch", "backend", "gibibytes"),
    [
        ("v5p:8x8x16", 2**30, "scan", 9),
        ("v5e:16x16", 2**26, "scan", 2.5),
        ("v5e:2x2", 2**18, "pallas", 3),
    ],
)
def test_a_pod_holds_the_loss(name, batch, backend, gibibytes):
    script = Path(__file__).with_name("pod.py")
    child = subprocess.run(
        [sys.executable, script, name, str(batch), "512", backend], capture_output=True, text=True, check=True
    )
    found = json.loads(child.stdout.splitlines()[-1])
    print(name, {key: f"{value / 2**30:.2f} GiB" for key, value in found.items() if key != "chips"})
    assert found["total"] <= gibibytes * 2**30
