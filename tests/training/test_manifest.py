import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.training.manifest import MANIFEST, DamagedCheckpoint, verify_manifest, write_manifest

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
