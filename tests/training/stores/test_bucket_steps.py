"""Checkpoints in a bucket: whole or not to be seen, verified, kept and removed as on a disk."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastive_jax.errors import InputError
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.manifest import MANIFEST
from contrastive_jax.training.stored_steps import NoIntactCheckpoint
from contrastive_jax.training.workdir import begun, open_workdir

KILLED = """
import os, sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
from contrastive_jax.training import checkpoint
from contrastive_jax.training.stores.paths import place
sys.path.insert(0, sys.argv[2])
import test_bucket_steps
test_bucket_steps.saved(place(sys.argv[1]), 1)
checkpoint.digests = lambda *_: os._exit(9)
test_bucket_steps.saved(place(sys.argv[1]), 2)
"""


def state(step):
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("fsdp",)), PartitionSpec("fsdp"))
    kernel = jnp.arange(48, dtype=jnp.float32).reshape(16, 3) + step
    return {
        "key": jax.random.key(step),
        "step": jnp.int32(step),
        "params": {"kernel": jax.device_put(kernel, sharding), "half": jnp.full((3,), step, jnp.bfloat16)},
        "nothing": jnp.zeros((0, 2)),
    }


def same(found, step):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state(step)), strict=True):
        assert a.dtype == b.dtype
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def saved(folder, *steps, **keywords):
    with Checkpoints(folder, **keywords) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), {"note": step})


def restored(folder, **keywords):
    with Checkpoints(folder, **keywords) as checkpoints:
        step, found, extra = checkpoints.restore(state(0))
        same(found, step)
        assert extra == {"note": step}
        return step


def damage(folder, step):
    """Changes a byte of the largest object of a step's arrays."""
    files = (folder / str(step) / "state").files()
    victim = folder / str(step) / "state" / max(files, key=files.get)
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_what_is_saved_is_restored_and_old_steps_go(run_in_bucket):
    saved(run_in_bucket, 1, 2, 3, keep=2)
    assert sorted(path.name for path in run_in_bucket.iterdir()) == ["2", "3"]
    assert restored(run_in_bucket) == 3


def test_on_another_mesh(run_in_bucket):
    saved(run_in_bucket, 1)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state(0))
    with Checkpoints(run_in_bucket, read_only=True) as checkpoints:
        _, found, _ = checkpoints.restore({"params": target["params"]}, partial=True)
    assert found["params"]["kernel"].sharding.device_set == {jax.devices()[0]}
    np.testing.assert_array_equal(found["params"]["kernel"], state(1)["params"]["kernel"])


def test_a_damaged_one_is_passed_over_and_put_aside(run_in_bucket, caplog):
    saved(run_in_bucket, 1, 2)
    damage(run_in_bucket, 2)
    assert restored(run_in_bucket, read_only=True) == 1
    assert (run_in_bucket / "2" / MANIFEST).exists()
    assert restored(run_in_bucket) == 1
    assert "does not have the content that was written" in caplog.text
    with Checkpoints(run_in_bucket) as checkpoints:
        assert checkpoints.steps() == [1]
        assert (run_in_bucket / "2" / "damaged-manifest.json").exists()
        checkpoints.save(2, state(2), {"note": 2})
    assert restored(run_in_bucket) == 2
    damage(run_in_bucket, 1)
    damage(run_in_bucket, 2)
    with pytest.raises(NoIntactCheckpoint, match=r"1: state/.*; 2: state/"):
        restored(run_in_bucket)


def test_a_missing_object_and_one_too_many_are_found(run_in_bucket):
    saved(run_in_bucket, 1, 2, 3, keep=3)
    files = (run_in_bucket / "3" / "state").files()
    (run_in_bucket / "3" / "state" / min(files)).unlink()
    (run_in_bucket / "2" / "state" / "more").write_bytes(b"")
    assert restored(run_in_bucket) == 1


def test_what_a_killed_process_leaves_is_not_seen_and_goes(run_in_bucket):
    """Killed when the arrays are there, and the manifest is not."""
    command = [sys.executable, "-c", KILLED, str(run_in_bucket), __file__.rpartition("/")[0]]
    assert subprocess.run(command, check=False).returncode == 9
    assert (run_in_bucket / "2" / "metadata.json").exists()
    assert restored(run_in_bucket, read_only=True) == 1
    assert (run_in_bucket / "2").exists()
    assert restored(run_in_bucket) == 1
    assert not (run_in_bucket / "2").exists()


def test_what_comes_before_is_durable_before_a_step_can_be_seen(run_in_bucket):
    seen = []
    with Checkpoints(run_in_bucket, before=lambda: seen.append(checkpoints.steps())) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, state(2))
    assert seen == [[], [1]]


def test_a_folder_without_a_step_is_free_and_one_with_a_step_is_not(run_in_bucket):
    """What a failed start left in the bucket goes, and nothing of a run."""
    one, other = ({"steps": 4, "data": {"source": name}} for name in ("a", "b"))
    open_workdir(run_in_bucket, one).close()
    for name in ("tokenizer.json", "metrics.jsonl", "tensorboard/events", "checkpoints/3/state/part"):
        (run_in_bucket / name).write_bytes(b"of the failed start")
    assert not begun(run_in_bucket)
    open_workdir(run_in_bucket, other).close()
    assert {name for name in run_in_bucket.files() if name != ".lock"} == {"config.json"}
    (run_in_bucket / "checkpoints" / "3" / MANIFEST).write_bytes(b"{}")
    assert begun(run_in_bucket)
    with pytest.raises(InputError, match="another config"):
        open_workdir(run_in_bucket, one)
