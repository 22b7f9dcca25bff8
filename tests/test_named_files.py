"""Names that stand in a file: below its folder, regular, not too large, or refused by name."""

import os
import socket
import tracemalloc

import pytest

from contrastive_jax import named_files
from contrastive_jax.errors import InputError
from contrastive_jax.named_files import Below, open_regular, read_json, read_regular, shown


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "x").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "rootless").mkdir()
    (tmp_path / "rootless" / "x").write_bytes(b"beside")
    return folder


def refused(below, name, words):
    for ask in (below.read, below.path):
        with pytest.raises(InputError) as error:
            ask(name)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("\\\\host\\share", "is an absolute path"),
        ("../secret", "leaves the folder"),
        ("inner/../../secret", "leaves the folder"),
        ("inner\\..\\x", "leaves the folder"),
        ("", "is no name"),
        ("inner/x\0.png", "is no name"),
        ("\ud83d.png", "is no name"),
        ("file:///etc/passwd", "is an address"),
        ("FILE:///etc/passwd", "is an address"),
        ("simplecache::inner/x", "is an address"),
        ("reference://x::file:///tmp/r.json", "is an address"),
        ("/" + "a" * 5000, "is an absolute path"),
    ],
)
def test_names_that_are_refused(root, name, words):
    refused(Below(root), name, words)


def test_what_lies_below_is_read(root):
    (root / "own").symlink_to("inner/x")
    (root / "again").symlink_to("inner")
    for name in ("inner/x", "own", "again/x", "./inner//x"):
        assert Below(root).read(name) == b"inside"
        assert Below(root).path(name).read_bytes() == b"inside"
    os.symlink(root, root.parent / "other")
    assert Below(root.parent / "other").read("own") == b"inside"  # the root itself may be a link


def test_links_that_leave(root):
    (root / "file").symlink_to("../secret")
    (root / "folder").symlink_to("/etc")
    (root / "beside").symlink_to("../rootless/x")  # whose path begins like the root's
    for name in ("file", "folder/passwd", "beside"):
        refused(Below(root), name, "is a link that leaves the folder")
    assert Below(root, links=True).read("file") == b"secret"
    assert Below(root, also=[root.parent / "rootless"]).read("beside") == b"beside"
    refused(Below(root, also=[root.parent / "rootless"]), "file", "is a link that leaves the folder")


def test_without_the_list_of_open_files(root, monkeypatch):
    """As on a system without /proc."""

    def no_list(path):
        raise FileNotFoundError(2, "No such file", path)

    (root / "file").symlink_to("../secret")
    monkeypatch.setattr(named_files.os, "readlink", no_list)
    monkeypatch.setattr(named_files.os.path, "realpath", os.path.abspath)
    below = Below(root)
    monkeypatch.undo()
    monkeypatch.setattr(named_files, "_place", lambda descriptor, path: os.path.realpath(path))
    assert below.read("inner/x") == b"inside"
    with pytest.raises(InputError, match="leaves the folder"):
        below.read("file")


def test_what_is_no_regular_file(root):
    os.mkfifo(root / "pipe")
    (root / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket")) if len(str(root)) < 90 else os.mkfifo(root / "socket")
        for name, words in {"pipe": "is a pipe", "zero": "is a device", "inner": "is a folder"}.items():
            with pytest.raises(InputError, match=words):
                Below(root, links=True).read(name)
        with pytest.raises(InputError, match=r"is a (socket|pipe)"):
            read_regular(root / "socket")
    for path in (root / "pipe", "/dev/zero", root):
        with pytest.raises(InputError, match="no regular file"):
            open_regular(path)
    assert len(os.listdir("/proc/self/fd")) < 200


def test_no_more_is_read_than_allowed(root):
    with open(root / "sparse", "wb") as file:
        file.truncate(1 << 40)
    refused_words = "'sparse' has more than 268435456 bytes"
    with pytest.raises(InputError, match=refused_words):
        Below(root).read("sparse")
    (root / "six").write_bytes(b"123456")
    assert Below(root, limit=6).read("six") == b"123456"
    with pytest.raises(InputError, match="'six' has more than 5 bytes"):
        Below(root, limit=5).read("six")


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="a file that says that it is empty")
def test_a_size_that_is_a_lie():
    assert os.stat("/proc/self/maps").st_size == 0
    with pytest.raises(InputError, match="has more than 10 bytes"):
        read_regular("/proc/self/maps", limit=10)


def test_json_files(root):
    (root / "list.json").write_text("[1]")
    (root / "deep.json").write_text("[" * 100_000)
    assert read_json(root / "list.json", list) == [1]
    for name, words in {
        "list.json": "holds no JSON object",
        "deep.json": "no readable JSON",
        "none.json": "No such file",
        "inner": "is a folder",
    }.items():
        with pytest.raises(InputError, match=words):
            read_json(root / name)


def test_long_names_are_cut():
    assert len(shown("x" * 10_000)) < 100


def test_no_more_memory_than_a_file_takes(root):
    below = Below(root)
    below.read("inner/x")
    tracemalloc.start()
    try:
        assert below.read("inner/x") == b"inside"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
