"""Files that several processes write at once: whole, whoever comes last; locks that go with their holder."""

import os
import subprocess
import sys

import pytest

from contrastive_jax import locking
from contrastive_jax.errors import CommandError
from contrastive_jax.locking import held, locked, write_atomically

WRITER = """
import sys
from pathlib import Path
from contrastive_jax.locking import write_atomically
for _ in range(60):
    write_atomically(Path(sys.argv[1]), sys.argv[2].encode() * 300_000)
"""


def test_what_several_processes_write_is_whole_all_the_time(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, b"a" * 300_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, file, letter]) for letter in "abc"]
    looks = 0
    while any(writer.poll() is None for writer in writers):
        content = file.read_bytes()
        assert content == content[:1] * 300_000
        looks += 1
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert looks > 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, little_room):
    file = tmp_path / "file"
    write_atomically(file, b"old")
    with little_room(1000), pytest.raises(OSError, match="large"):
        write_atomically(file, b"x" * 5000)
    assert file.read_bytes() == b"old"
    (tmp_path / ".file.partial").write_bytes(b"of a process that was killed")
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_one_holds_an_output_and_its_death_frees_it(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "SECONDS_TO_LEAVE", 0.3)
    output = tmp_path / "out"
    told = pytest.raises(CommandError, match="--output out is in use by another")
    with held(output, "--output out"), told, held(output, "--output out"):
        pass
    assert list(tmp_path.iterdir()) == []
    code = (
        "import os, sys; from pathlib import Path; from contrastive_jax.locking import held\n"
        "with held(Path(sys.argv[1]), 'it'): print('held', flush=True); os.kill(os.getpid(), 9)"
    )
    process = subprocess.run([sys.executable, "-c", code, output], capture_output=True, text=True)
    assert process.stdout == "held\n"
    with held(output, "it"):
        assert (tmp_path / ".out.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_has_gone_meanwhile_is_none(tmp_path):
    """Who waited for it holds a file that nobody else can find, and takes the new one."""
    path = tmp_path / "lock"
    opened = open

    def open_and_lose(*arguments):
        file = opened(*arguments)
        if not lost:
            lost.append(os.unlink(path))
        return file

    lost = []
    locking.open = open_and_lose
    try:
        with locked(path, "it") as file:
            assert os.path.samestat(os.fstat(file.fileno()), path.stat())
    finally:
        del locking.open
