import os
import pickle
import subprocess
import sys

import pytest

from contrastive_jax.data.faults import Access, StoreFault
from contrastive_jax.data.folders import Folder
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_subfolders_are_classes(tmp_path):
    fill(tmp_path, "dog/2.JPG", "cat/b/1.png", "cat/1.png", "dog/notes.md", ".git/x.png", "cat/.x.png")
    source = pickle.loads(pickle.dumps(Folder(str(tmp_path))))
    assert source.column("key") == ["cat/1.png", "cat/b/1.png", "dog/2.JPG"]
    assert source[2] == {
        "key": "dog/2.JPG",
        "record": 2,
        "image": b"dog/2.JPG",
        "label": 1,
        "label_name": "dog",
    }
    assert source.column("label") == [0, 0, 1]
    assert source.column("label_name") == ["cat", "cat", "dog"]
    with pytest.raises(KeyError):
        source.column("image")


def test_a_flat_folder_with_captions(tmp_path):
    fill(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "1.txt").write_text("é one\n")
    (tmp_path / "3.txt").write_text("three")
    source = Folder(f"{tmp_path}/")
    assert [record.get("text") for record in source] == ["é one", None, "three"]
    assert source.column("text") == ["é one", "", "three"]
    with pytest.raises(KeyError):
        source.column("label")


def test_a_picture_that_is_gone(tmp_path):
    fill(tmp_path, "1.png")
    source = Folder(str(tmp_path), access=Access(retry_seconds=0))
    os.unlink(tmp_path / "1.png")
    with pytest.raises(StoreFault, match=r"1\.png cannot be read \(No such file"):
        source[0]


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Folder(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no picture in"):
        Folder(str(tmp_path))
    fill(tmp_path, "1.png", "cat/2.png")
    with pytest.raises(InputError, match=r"1\.png lies beside the classes 'cat'"):
        Folder(str(tmp_path))


def test_captions_that_are_no_text(tmp_path):
    fill(tmp_path, "1.png", "2.png")
    (tmp_path / "1.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "2.txt").write_text("two")
    source = Folder(str(tmp_path))
    assert source.column("text") == ["", "two"]
    with pytest.raises(BrokenRecord, match=r"1\.txt: damaged"):
        source[0]


def test_a_subfolder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    fill(tmp_path, "cat/1.png", "dog/1.png")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match="Permission denied"):
        Folder(str(tmp_path))


def test_classes_that_are_links_to_folders(tmp_path):
    folder, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    for path in (folder, elsewhere):
        path.mkdir()
    (elsewhere / "x.png").write_bytes(b"x")
    (elsewhere / "round").symlink_to(folder)
    for name in "ab":
        (folder / name).symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"no picture in .*behind links to folders with \?allow=links\)"):
        open_source(f"folder:{folder}")
    keys = open_source(f"folder:{folder}?allow=links").column("key")
    assert {"a/x.png", "b/x.png"} <= set(keys)
    assert len(keys) < 10


def test_a_picture_that_is_a_link_says_how_to_allow_it(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "x.png").write_bytes(b"x")
    (tmp_path / "set" / "x.png").symlink_to("../x.png")
    with pytest.raises(BrokenRecord, match=r"leaves the folder; \?allow=links behind the source allows that"):
        open_source(f"folder:{tmp_path}/set")[0]
    assert open_source(f"folder:{tmp_path}/set?allow=links")[0]["image"] == b"x"


def test_what_is_no_picture_is_a_broken_record_and_keeps_nobody(tmp_path):
    fill(tmp_path, "a/x.png", "b/x.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "none.png").symlink_to("nowhere.png")
    script = (
        "import sys; from contrastive_jax.data.folders import Folder; "
        "print(Folder(sys.argv[1]).contents()[0].files)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "'a/none.png': 0, 'a/pipe.png': 0, 'a/x.png': 7" in done.stdout, done.stderr
