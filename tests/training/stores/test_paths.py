"""Paths in a store: what of `pathlib.Path` the folder of a run needs, against a real server."""

import hashlib

import fsspec
import pytest

from contrastive_jax.errors import CommandError, InputError, kind_of
from contrastive_jax.training.stores import paths
from contrastive_jax.training.stores.paths import StoreFault, StorePath, place
from contrastive_jax.training.workdir import open_workdir


def test_a_local_path_stays_one(tmp_path):
    assert place(str(tmp_path)) == tmp_path
    assert place(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "address", ["gd://b/run", "s3:/b/run", "s3:///run", "s3://", "file:///x", "az://b/run"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(InputError, match="s3://bucket/folder or gs://bucket/folder"):
        place(address)


def test_names():
    path = place("s3://bucket/a//run/")
    assert str(path) == "s3://bucket/a/run"
    assert (path.name, path.bucket, str(path.parent)) == ("run", "bucket", "s3://bucket/a")
    assert path / "x" == StorePath("s3://bucket/a/run/x")


def test_objects_and_folders_of_them(run_in_bucket):
    run = run_in_bucket
    assert not run.exists()
    assert not run.is_dir()
    assert run.files() == {}
    assert list(run.iterdir()) == []
    (run / "a.json").write_text("é")
    (run / "d" / "b.png").write_bytes(b"1234")
    assert run.files() == {"a.json": 2, "d/b.png": 4}
    assert list(run.iterdir()) == [run / "a.json", run / "d"]
    assert list((run / "d").glob("*.png")) == [run / "d" / "b.png"]
    assert [path.is_file() for path in (run / "a.json", run / "d", run / "x")] == [True, False, False]
    assert [path.is_dir() for path in (run / "a.json", run / "d", run / "x")] == [False, True, False]
    assert [path.exists() for path in (run / "a.json", run / "d", run / "x")] == [True, True, False]
    assert (run / "a.json").read_text() == "é"
    assert (run / "d" / "b.png").digest() == (4, hashlib.sha256(b"1234").hexdigest())
    with pytest.raises(FileExistsError):
        (run / "a.json").create(b"other")
    (run / "a.json").unlink()
    (run / "a.json").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (run / "a.json").read_bytes()
    (run / "d").remove_tree()
    assert not run.exists()


def test_whose_fault_it_is(run_in_bucket):
    nowhere = place("s3://nosuchbucket/run/config.json")
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        nowhere.write_bytes(b"1")
    with pytest.raises(FileNotFoundError):
        nowhere.read_bytes()
    with pytest.raises(FileNotFoundError):
        place("s3://not a bucket!/run/config.json").write_bytes(b"1")
    # A wrong name is the user's to mend, though what is raised has no number.
    with pytest.raises(InputError, match=r"^--workdir s3://nosuchbucket/run cannot be used: .* give a"):
        open_workdir("s3://nosuchbucket/run", {"steps": 1})
    assert kind_of(PermissionError("Forbidden")) is InputError
    assert kind_of(OSError("no number")) is CommandError


def test_a_server_that_is_not_there_is_a_fault(run_in_bucket, monkeypatch):
    once = {"retries": {"max_attempts": 0}}
    nobody = fsspec.filesystem("s3", endpoint_url="http://127.0.0.1:9", config_kwargs=once)
    monkeypatch.setattr(nobody, "retries", 1)
    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "system", nobody)
        patch.setattr(paths, "RETRY_SECONDS", 0)
        with pytest.raises(StoreFault, match=r"s3://bucket/.*: EndpointConnectionError"):
            (run_in_bucket / "config.json").read_bytes()


def test_a_fault_that_passes_is_not_seen(run_in_bucket, monkeypatch, caplog):
    real, asked = run_in_bucket.system, []

    class Shaky:
        def cat_file(self, key):
            asked.append(key)
            if len(asked) < 3:
                raise RuntimeError("SlowDown")
            return real.cat_file(key)

    (run_in_bucket / "x").write_bytes(b"1")
    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "system", Shaky())
        patch.setattr(paths.time, "sleep", lambda seconds: None)
        assert (run_in_bucket / "x").read_bytes() == b"1"
    assert caplog.text.count("RuntimeError: SlowDown; trying again for 60 s") == 1


def test_a_store_that_knows_no_conditions_just_writes(run_in_bucket, monkeypatch):
    real = run_in_bucket.system

    class Plain:
        def pipe_file(self, key, content, mode="overwrite"):
            if mode == "create":
                raise OSError("A header you provided implies functionality that is not implemented")
            real.pipe_file(key, content)

    with monkeypatch.context() as patch:
        patch.setattr(StorePath, "system", Plain())
        (run_in_bucket / "x").create(b"1")
        (run_in_bucket / "x").create(b"2")
    assert (run_in_bucket / "x").read_bytes() == b"2"
