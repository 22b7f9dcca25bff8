import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from contrastive_jax.data import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.arange(1000, dtype=np.int32), "b": np.full((3, 2), 7, np.uint8)}


def check(maker):
    arrays = cache.cached("name", maker)
    assert all(np.array_equal(arrays[name], column) for name, column in Maker()().items())


def test_made_once_and_read_after(folder):
    maker = Maker()
    check(maker)
    check(maker)
    assert maker.calls == 1
    assert sorted(path.name for path in folder.iterdir()) == ["name.npz", "name.npz.sha256"]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "flipped": lambda folder: flip(folder / "name.npz"),
    "truncated": lambda folder: os.truncate(folder / "name.npz", 1000),
    "emptied": lambda folder: os.truncate(folder / "name.npz", 0),
    "no checksum": lambda folder: (folder / "name.npz.sha256").unlink(),
    "empty checksum": lambda folder: os.truncate(folder / "name.npz.sha256", 0),
    "other checksum": lambda folder: flip(folder / "name.npz.sha256"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again_with_one_warning(folder, damage, caplog):
    maker = Maker()
    check(maker)
    if damage == "other checksum":
        (folder / "name.npz.sha256").write_text("0" * 64)
    else:
        DAMAGE[damage](folder)
    with caplog.at_level(logging.WARNING):
        check(maker)
    assert maker.calls == 2
    (record,) = caplog.records
    assert "making it again" in record.getMessage()
    check(maker)
    assert maker.calls == 2


def test_a_missing_file_is_made_again(folder):
    maker = Maker()
    check(maker)
    (folder / "name.npz").unlink()
    check(maker)
    check(maker)
    assert maker.calls == 2


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        check(Maker())
    assert "going on without" in caplog.records[-1].getMessage()


def test_left_overs_of_killed_writes_are_cleared_when_old(folder):
    folder.mkdir()
    for age, name in ((10, "new"), (10_000, "old")):
        path = folder / f".name.npz.{name}"
        path.write_bytes(b"torn")
        os.utime(path, (time.time() - age,) * 2)
    check(Maker())
    assert [path.name for path in folder.glob(".*")] == [".name.npz.new"]


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("CONTRASTIVE_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "contrastive_jax"


WRITE_FOR_EVER = """
import numpy as np
from contrastive_jax.data import cache
arrays = {"a": np.arange(500_000, dtype=np.int32)}
path = cache.folder() / "name.npz"
cache._write(path, arrays)
print("up", flush=True)
while True:
    cache._write(path, arrays)
"""


def test_a_kill_at_any_moment_leaves_what_loads_or_is_made_again(folder):
    expected = {"a": np.arange(500_000, dtype=np.int32)}
    for delay in (0.0, 0.003, 0.011, 0.02):
        process = subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert np.array_equal(cache.cached("name", lambda: expected)["a"], expected["a"])
        assert cache._read(folder / "name.npz") is not None


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        cache.replace(tmp_path / "file", b"content")
        cache.replace(tmp_path / "file", b"more")
    finally:
        os.umask(before)
    assert (tmp_path / "file").read_bytes() == b"more"
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert len(list(tmp_path.iterdir())) == 1
