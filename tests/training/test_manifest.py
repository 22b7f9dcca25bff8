import hashlib
import os
import shutil
import threading
from collections import ChainMap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.training import manifest
from contrastive_jax.training.manifest import (
    MANIFEST,
    DamagedCheckpoint,
    digests,
    verify_manifest,
    write_manifest,
)

FILES = {"a.bin": os.urandom(50), "deep/er/b": b"x" * 70, "deep/empty": b""}


def make(folder):
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("manifest"))


def test_an_untouched_folder_passes(folder):
    verify_manifest(folder)


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from([MANIFEST, MANIFEST, "a.bin", "deep/er/b"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)
def test_every_changed_byte_is_found(folder, name, place, change):
    content = (folder / name).read_bytes()
    torn = bytearray(content)
    torn[int(place * len(content))] ^= change
    (folder / name).write_bytes(torn)
    try:
        with pytest.raises(DamagedCheckpoint, match=name):
            verify_manifest(folder)
    finally:
        (folder / name).write_bytes(content)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([MANIFEST, "a.bin"]), st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_found(folder, name, place):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(place * len(content))])
    try:
        with pytest.raises(DamagedCheckpoint, match=name):
            verify_manifest(folder)
    finally:
        (folder / name).write_bytes(content)


def test_missing_and_added_files_are_found(tmp_path):
    for name in [*FILES, MANIFEST]:
        folder = make(tmp_path / "missing")
        (folder / name).unlink()
        with pytest.raises(DamagedCheckpoint, match=name):
            verify_manifest(folder)
        shutil.rmtree(folder)
    folder = make(tmp_path / "added")
    (folder / "deep" / "new").write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match="deep/new is not in"):
        verify_manifest(folder)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_processes_that_share_the_reading_miss_no_file(tmp_path, parts):
    for name in ("a.bin", "deep/er/b"):
        folder = make(tmp_path / name.replace("/", "-"))
        torn = bytearray((folder / name).read_bytes())
        torn[3] ^= 1
        (folder / name).write_bytes(torn)
        found = []
        for part in range(parts):
            try:
                verify_manifest(folder, part, parts)
            except DamagedCheckpoint as error:
                found.append(str(error))
        assert found == [f"{name} does not have the content that was written"]


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_processes_share_the_digesting_and_write_the_same_manifest(tmp_path, parts):
    folder = make(tmp_path / "folder")
    written = (folder / MANIFEST).read_bytes()
    found = [digests(folder, part, parts) for part in range(parts)]
    assert sorted(name for share in found for name in share) == sorted(FILES)
    write_manifest(folder, dict(ChainMap(*found)))
    assert (folder / MANIFEST).read_bytes() == written


def test_what_a_process_does_not_see_is_digested_by_the_one_that_writes(tmp_path):
    folder = make(tmp_path / "folder")
    written = (folder / MANIFEST).read_bytes()
    write_manifest(folder, {**digests(folder, 0, 2), "gone": {"sha256": "", "size": 0}})
    assert (folder / MANIFEST).read_bytes() == written
    verify_manifest(folder)


def test_files_that_are_known_are_not_read_again(tmp_path, monkeypatch):
    folder = make(tmp_path / "folder")
    known = digests(folder)
    read = []
    monkeypatch.setattr(manifest, "_digest", lambda path: read.append(path))
    write_manifest(folder, known)
    assert read == []


def test_who_has_written_a_file_digests_it(tmp_path):
    for process in range(3):
        (tmp_path / f"state/ocdbt.process_{process}/d").mkdir(parents=True)
        (tmp_path / f"state/ocdbt.process_{process}/d/x").write_bytes(b"x")
    for process in range(3):
        assert list(digests(tmp_path, process, 3)) == [f"state/ocdbt.process_{process}/d/x"]


def test_several_files_are_read_at_a_time(tmp_path, monkeypatch):
    for name in "abcd":
        (tmp_path / name).write_bytes(b"x")
    together = threading.Barrier(4)

    def met(path, *_):
        together.wait(10)
        return {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}

    monkeypatch.setattr(manifest, "_digest", met)
    write_manifest(tmp_path)
    verify_manifest(tmp_path)
