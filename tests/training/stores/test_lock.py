"""The lock of a run in a store: one holder, who lives or is taken over."""

import json
import subprocess
import sys

import pytest

from contrastive_jax.errors import CommandError
from contrastive_jax.training.stores import lock
from contrastive_jax.training.stores.lock import StoreLock


@pytest.fixture
def folder(run_in_bucket, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lock, "EXPIRES_SECONDS", 1.0)
    return run_in_bucket


def left(folder, **changes):
    """The lock of a process that was killed."""
    code = (
        "import os, sys\nfrom contrastive_jax.training.stores.lock import StoreLock\n"
        "from contrastive_jax.training.stores.paths import place\nStoreLock(place(sys.argv[1]))\nos._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 9
    content = json.loads((folder / ".lock").read_bytes()) | changes
    (folder / ".lock").write_text(json.dumps(content))
    return content


def test_a_second_one_is_refused_until_the_first_closes(folder):
    first = StoreLock(folder)
    with pytest.raises(CommandError, match=r"s3://bucket/.* is in use by another process \(\d+ of .*\)"):
        StoreLock(folder)
    first.close()
    assert not (folder / ".lock").exists()
    StoreLock(folder).close()


def test_one_of_a_process_of_this_machine_that_is_gone_is_taken_over_at_once(folder, monkeypatch):
    gone = left(folder)
    monkeypatch.setattr(lock, "EXPIRES_SECONDS", 1e6)
    held = StoreLock(folder)
    assert json.loads((folder / ".lock").read_bytes())["owner"] != gone["owner"]
    held.close()


def test_one_of_another_machine_is_watched_first(folder, caplog):
    left(folder, machine="another", host="node-7")
    with caplog.at_level("INFO", "contrastive_jax"):
        StoreLock(folder).close()
    assert "of node-7: seeing for up to 1 s whether it lives" in caplog.text
    assert "of node-7 is gone" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whoever_has_lost_the_lock_ends(folder, monkeypatch, capfd):
    ended = []

    def leave(code):
        ended.append(code)
        raise SystemExit

    monkeypatch.setattr(lock.os, "_exit", leave)
    held = StoreLock(folder)
    (folder / ".lock").write_text(json.dumps({"owner": "another"}))
    held._thread.join(10)
    assert ended == [1]
    assert "has been taken over by another process" in capfd.readouterr().err
    held.close()
    assert json.loads((folder / ".lock").read_bytes()) == {"owner": "another"}


def test_a_store_without_conditions_is_named(folder, monkeypatch, caplog):
    monkeypatch.setattr(type(folder), "create", lambda path, content: path.write_bytes(content))
    StoreLock(folder).close()
    assert "bucket knows no locks" in caplog.text
