"""`data prepare` when a worker is killed or the disk is full: one line, and the same command goes on."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest
from refusals import refused

from contrastive_jax.data import shards as shards_module
from contrastive_jax.data.preparation import manifest
from contrastive_jax.data.shards import Plan, write_shard
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError

RECORDS, SHARDS = 120, 12  # of about 60 KB, which ArrayRecord rounds up to 128 KB a shard


@pytest.fixture
def source(tmp_path):
    """Texts that no compression makes small."""
    texts = (random.Random(number).randbytes(3000).hex() for number in range(RECORDS))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return f"jsonl:{tmp_path}/texts.jsonl"


def line(source, output, workers):
    line = ["data", "prepare", "--source", source, "--output", str(output), "--shards", str(SHARDS)]
    return [*line, "--workers", str(workers), "--json"]


def shards(folder):
    """{name: (digest, time of change)} of the shards."""
    files = folder.glob("*.arrayrecord")
    return {p.name: (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


def goes_on(in_process, line, folder, kept, whole):
    """The same command makes what is missing, and that alone; the folder is that of an undisturbed run."""
    code, out, err = in_process(*line)
    assert code == 0, err
    assert json.loads(out)["records"] == RECORDS
    assert f"{len(kept)} of {SHARDS} shards are there" in err
    made = shards(folder)
    assert {name: made[name] for name in kept} == kept
    assert {name: digest for name, (digest, _) in made.items()} == {
        name: digest for name, (digest, _) in shards(whole).items()
    }
    assert (folder / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert len(open_source(f"arrayrecord:{folder}")) == RECORDS


@pytest.fixture
def whole(in_process, source, tmp_path):
    """The folder that an undisturbed run makes."""
    code, _, err = in_process(*line(source, tmp_path / "whole", 0))
    assert code == 0, err
    return tmp_path / "whole"


def test_a_worker_that_is_killed(in_process, source, tmp_path, whole, monkeypatch):
    folder, before = tmp_path / "shards", set(multiprocessing.active_children())
    killed = []

    def kill():
        """The first of the command's workers, when three shards are done."""
        while len(list(folder.glob(".*.arrayrecord.json"))) < 3:
            time.sleep(0.001)
        victim = next(iter(set(multiprocessing.active_children()) - before))
        os.kill(victim.pid, signal.SIGKILL)
        killed.append(victim)

    # Slow enough that there is something left to do.
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = in_process(*line(source, folder, 2))
    refused(result, "a worker process died", "run the same command again", code=1)
    killer.join(60)
    assert killed
    deadline = time.monotonic() + 30
    while set(multiprocessing.active_children()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(multiprocessing.active_children()) - before
    kept = shards(folder)
    assert 3 <= len(kept) < SHARDS
    monkeypatch.delenv("PYTHONPATH")
    # A shard that was renamed and lacks its summary is made again.
    kept = {name: of for name, of in kept.items() if (folder / f".{name}.json").exists()}
    goes_on(in_process, line(source, folder, 0), folder, kept, whole)


def test_a_source_that_changed_meanwhile(in_process, source, whole):
    """Finished or half done, shards of two states of one source are never mixed."""
    file = whole.parent / "texts.jsonl"
    text = file.read_text()
    file.write_text(text[:-6] + ("0" if text[-6] != "0" else "1") + text[-5:])
    words = "texts.jsonl has the same size and another content here than there"
    refused(in_process(*line(source, whole, 0)), "holds other shards", words)
    next(whole.glob("*.arrayrecord")).unlink()
    kept = shards(whole)
    refused(in_process(*line(source, whole, 0)), "holds other shards", words)
    assert shards(whole) == kept
    shards_module._opened.cache_clear()
    plan = Plan(**{**manifest(whole)["plan"], "data": json.dumps(manifest(whole)["plan"]["data"])})
    with pytest.raises(InputError, match=r"is not what it was at the start: .* another content now"):
        write_shard(plan, str(whole), 0)  # as a worker on another machine does
    # An earlier version did not note what the source was made of.
    noted = json.loads((whole / "manifest.json").read_text())
    del noted["plan"]["data"]
    (whole / "manifest.json").write_text(json.dumps(noted))
    assert in_process(*line(source, whole, 0))[0] == 0


# Each fsync of a worker takes a while; there are two a shard.
SLOW = """
import os, time
fsync = os.fsync
os.fsync = lambda file: (time.sleep(0.15), fsync(file))
"""


def mount(folder, size, *options):
    command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", folder]
    return bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True).returncode


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "600k"):
        pytest.skip("a file system of 600 KB cannot be mounted here (it takes the rights of root)")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_fills_up(in_process, source, tmp_path, whole, disk, workers):
    folder = disk / "shards"
    result = in_process(*line(source, folder, workers))
    refused(result, str(folder), "No space left on device", "run the same command again to go on", code=1)
    kept = shards(folder)
    assert 0 < len(kept) < SHARDS
    assert not list(folder.glob("*partial*"))
    assert mount(disk, "16m", "remount")
    goes_on(in_process, line(source, folder, workers), folder, kept, whole)


def test_a_disk_without_room_for_a_folder(in_process, source, disk):
    assert mount(disk, "600k", "remount", "nr_inodes=1")
    result = in_process(*line(source, disk / "shards", 0))
    refused(result, "shards cannot be used (No space left on device)", code=1)


def test_a_disk_that_is_full_from_the_start(in_process, source, whole, disk):
    """Not even the manifest can be written; nothing is left that a second run would stumble over."""
    folder = disk / "shards"
    folder.mkdir()
    with pytest.raises(OSError, match="No space left"):
        (disk / "other").write_bytes(bytes(1 << 20))
    refused(in_process(*line(source, folder, 0)), "No space left on device", "again to go on", code=1)
    assert [p.name for p in folder.iterdir()] == [".lock"]
    assert mount(disk, "16m", "remount")
    code, _, err = in_process(*line(source, folder, 0))
    assert code == 0, err
    assert (folder / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
