"""What each of two real processes reads to make a checkpoint visible, and to verify one."""

import subprocess
import sys

import pytest
from fleet import free_port

pytestmark = [pytest.mark.command, pytest.mark.slow]
MEGABYTES = 96
SAVING = """
import hashlib, os, sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from contrastive_jax.distributed.processes import Group
from contrastive_jax.training.checkpoint import Checkpoints

index, port, folder, megabytes = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
jax.distributed.initialize(f"localhost:{port}", 2, index)
sharding = NamedSharding(Mesh(np.array(jax.devices()), ("d",)), PartitionSpec("d"))
full = np.random.default_rng(0).standard_normal((megabytes, 1 << 18), np.float32)  # a MiB a row
rows = {f"a{n}": full[n * 8 : n * 8 + 8] for n in range(megabytes // 8)}
state = {n: jax.make_array_from_callback(x.shape, sharding, lambda at, x=x: x[at]) for n, x in rows.items()}
read, real = [], hashlib.file_digest
def counted(file, kind):
    read.append(os.fstat(file.fileno()).st_size)
    return real(file, kind)
hashlib.file_digest = counted
group = Group(2, index)
with Checkpoints(folder, group=group) as checkpoints:
    checkpoints.save(1, state)
    checkpoints.wait()
    group.barrier("saved")
    print(sum(read))
    read.clear()
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)
    step, found, _ = checkpoints.restore(target)
    print(sum(read))
    assert all((np.asarray(a.data) == np.asarray(b.data)).all()
               for n in state for a, b in zip(found[n].addressable_shards, state[n].addressable_shards))
    group.barrier("the end")
"""


def test_each_process_reads_its_half(environment, tmp_path):
    port, folder = str(free_port()), tmp_path / "checkpoints"
    line = [sys.executable, "-c", SAVING]
    processes = [
        subprocess.Popen(
            [*line, str(index), port, str(folder), str(MEGABYTES)],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    told = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    read = [[int(line) for line in lines if line.isdecimal()] for lines in told]  # Gloo prints there too
    assert [process.returncode for process in processes] == [0, 0]
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "manifest.json")
    total = sum(file.stat().st_size for file in files)
    for halves in zip(*read):  # of the saving, of the restoring
        assert sum(halves) == total
        assert max(halves) < 0.6 * total
