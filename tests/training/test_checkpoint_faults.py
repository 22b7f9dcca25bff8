"""Checkpoints of a process that is killed, and on a disk that is full."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest
from states import abstract, hidden, opened, same, small

from contrastive_jax.distributed.processes import ALONE
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.manifest import CheckpointError, verify_manifest
from contrastive_jax.training.stored_steps import StoredSteps

KILLED = """
import os, signal, sys
from contrastive_jax.training.checkpoint import Checkpoints
sys.path.insert(0, sys.argv[2])
from states import abstract, same, small
left = int(sys.argv[3])
def count(event, _):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
with Checkpoints(sys.argv[1], keep=3) as checkpoints:
    found = checkpoints.restore(abstract(small(0)))
    step = found[0] if found else 0
    if found:
        same(found[1], small(step))
    print("ready", flush=True)
    sys.addaudithook(count)
    while True:
        step += 1
        checkpoints.save(step, small(step))
"""


def run_until_killed(folder, seconds, changes):
    """Saves in a loop, dead after `seconds`, or before the n-th rename or removal."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, folder, Path(__file__).parent, str(changes)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        assert changes == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_every_visible_step_survives_a_kill(tmp_path):
    moments, reached = random.Random(5), 0
    kills = [(moments.uniform(0.02, 0.4), 0) for _ in range(4)]
    kills += [(20, changes) for changes in moments.sample(range(1, 50), 4)]
    for seconds, changes in kills:
        run_until_killed(tmp_path, seconds, changes)
        with opened(tmp_path, read_only=True) as checkpoints:
            steps = checkpoints.steps()
            for step in steps:
                same(checkpoints.restore(abstract(small(0)), step)[1], small(step))
            assert max(steps, default=0) >= reached
            reached = max(steps, default=0)
    assert reached > 5


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a file system of 1 MB cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_keeps_what_was_there(tiny_disk, caplog):
    checkpoints = Checkpoints(tiny_disk / "checkpoints")
    checkpoints.save(1, small(1))
    checkpoints.save(2, {"x": jax.random.normal(jax.random.key(0), (1 << 20,))})
    with pytest.raises(CheckpointError) as error:
        checkpoints.save(3, small(3))
    assert "checkpoint 2 was not written" in str(error.value)
    assert str(error.value).endswith("no space left on device")
    assert not caplog.records
    checkpoints.wait()
    assert (checkpoints.steps(), hidden(checkpoints.folder)) == ([1], [])
    verify_manifest(checkpoints.folder / "1")
    checkpoints.save(3, small(3))
    checkpoints.close()
    assert checkpoints.steps() == [1, 3]
    assert os.listdir(tiny_disk) == ["checkpoints"]


def test_writes_that_end_after_the_failed_one_leave_nothing(tmp_path):
    """Each makes its file, and the folder again, as TensorStore's do, while the folder is being removed."""
    late = StoredSteps(tmp_path, ALONE).path(7, "partial") / "state" / "d"

    def write():
        for _ in range(20):
            with contextlib.suppress(FileNotFoundError):  # of a parent, removed between the two
                late.mkdir(parents=True, exist_ok=True)
            time.sleep(0.02)

    late.mkdir(parents=True)
    writing = threading.Thread(target=write)
    writing.start()
    StoredSteps(tmp_path, ALONE).abandon(7)
    writing.join()
    assert not os.listdir(tmp_path)
