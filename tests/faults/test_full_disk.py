"""A disk that fills up under a run."""

import shutil
import subprocess

import pytest
from real_runs import lines, message, steps, untimed

from contrastive_jax.training.manifest import verify_manifest

pytestmark = pytest.mark.command


def mount(folder, size, *options) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", folder]
    return bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True).returncode


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "3m"):
        pytest.skip("a file system of 3 MB cannot be mounted here (it takes the rights of root)")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_in_the_middle_of_a_checkpoint(disk, command, undisturbed):
    """All checkpoints are kept until the disk is full; with more room the same command goes on."""
    workdir = disk / "run"
    _, err = command.run(workdir, "checkpoint.keep=None", code=1)
    told = message(err)
    assert "was not written in" in told
    assert told.endswith("no space left on device")
    kept = steps(workdir)
    assert kept
    for step in kept:
        verify_manifest(workdir / "checkpoints" / str(step))
    assert not list((workdir / "checkpoints").glob(".*"))
    assert len(lines(workdir)) - kept[-1] <= 8  # the steps of the save that failed, and until it was told
    assert mount(disk, "64m", "remount")
    _, err = command.run(workdir, "checkpoint.keep=None")
    assert f"resuming from step {kept[-1]}" in err
    assert untimed(workdir) == untimed(undisturbed)
