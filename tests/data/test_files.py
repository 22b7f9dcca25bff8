import os
import re
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.faults import StoreFault
from contrastive_jax.data.files import Places, expand, names
from contrastive_jax.data.ranges import Parts
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=8))
def test_places_count_the_records_of_one_file_after_another(counts):
    places = Places(counts)
    expected = [(file, row) for file, count in enumerate(counts) for row in range(count)]
    assert [places[index] for index in range(len(places))] == expected
    for file in range(len(counts)):
        assert [expected[index][0] for index in places.of_file(file)] == [file] * counts[file]
    for index in (-1, len(places)):
        with pytest.raises(IndexError):
            places[index]


def test_patterns(tmp_path, monkeypatch):
    for name in ("a-08.x", "a-09.x", "a-10.x", "b/c.x", "b/d.y", "{odd}.x", "w[1].x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    for pattern, found in {
        "a-{08..10}.x": ["a-08.x", "a-09.x", "a-10.x"],
        "{b/c.x,a-08.x}": ["b/c.x", "a-08.x"],
        "a-?[89].x": ["a-08.x", "a-09.x"],
        "b": ["b/c.x"],
        "**/*.y": ["b/d.y"],
        "{odd}.x": ["{odd}.x"],
        "w[1].x": ["w[1].x"],
    }.items():
        assert expand(pattern, ".x") == found
    for pattern in ("a-{08..11}.x", "c*.x", "nowhere", ""):
        with pytest.raises(InputError, match=r"no file|no path"):
            expand(pattern, ".x")


def test_a_folder_of_the_formats_ending_is_no_file(tmp_path):
    (tmp_path / "set.x").mkdir()
    (tmp_path / "set.x" / "part.x").touch()
    assert expand(str(tmp_path), ".x") == [f"{tmp_path}/set.x/part.x"]
    assert expand(f"{tmp_path}/set.x", ".x") == [f"{tmp_path}/set.x/part.x"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "arrayrecord", "webdataset"])
def test_a_range_that_holds_no_number(tmp_path, kind):
    with pytest.raises(InputError, match="from the smaller number to the larger"):
        open_source(f"{kind}:{tmp_path}/{{3..1}}.x")


@pytest.mark.parametrize("address", ["ftp://127.0.0.1:1/x.tar", "reference://x.tar", "zip://x.tar"])
def test_stores_that_cannot_be_opened_are_named(address):
    with pytest.raises(InputError) as error:
        open_source(f"webdataset:{address}")
    assert address in str(error.value)
    assert "\n" not in str(error.value)


def test_short_names_differ_where_paths_do():
    assert names(["/d/a/1.tar"], ".tar") == ["1"]
    assert names(["/d/a/1.tar", "/d/ab/1.tar"], ".tar") == ["a/1", "ab/1"]
    assert names(["s3://b/w/1.tar", "s3://b/w/2.tar"], ".tar") == ["1", "2"]
    assert names(["1.tar", "x/1.tar"], ".tar") == ["1", "x/1"]


def test_parts_of_files_and_what_is_not_there(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    parts = Parts([str(path), str(tmp_path / "none")], seconds=0)
    assert parts.read(0, 3, 4) == b"3456"
    os.unlink(path)
    assert parts.read(0, 0, 10) == b"0123456789"  # it stays open
    for number, start, length in ((0, 8, 3), (1, 0, 1)):
        with pytest.raises(StoreFault, match=r"No such file"):
            parts.read(number, start, length)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{0..9999999999}.tar", "means 10,000,000,000 files, and at most 1,000,000 are looked for"),
        ("{0..9999}{0..9999}/x.tar", "means 100,000,000 files"),
        ("{a,b}" * 64, "files, and at most 1,000,000"),
        ("{0.." + "9" * 5000 + "}", "longer than 18 digits"),
        ("{5..1}{0..9999999999}", "from the smaller number to the larger"),
    ],
)
def test_braces_that_mean_too_many_files(pattern, words):
    with pytest.raises(InputError, match=re.escape(words)) as error:
        expand(pattern, ".tar")
    assert len(str(error.value)) < 300


def test_links_in_circles_come_to_an_end(tmp_path):
    (tmp_path / "x.tar").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "y.tar").touch()
    (tmp_path / "in" / ".hidden.tar").touch()
    (tmp_path / "again").symlink_to(tmp_path / "in")
    for name in "abc":
        (tmp_path / name).symlink_to(tmp_path)
        (tmp_path / "in" / name).symlink_to(tmp_path)
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it goes round for ever"))
    signal.alarm(60)
    try:
        found = expand(str(tmp_path), ".tar")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert found == [f"{tmp_path}/{name}" for name in ("again/y.tar", "in/y.tar", "x.tar")]
    (tmp_path / "gone.tar").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"cannot read .*/gone\.tar \(No such file"):
        expand(str(tmp_path), ".tar")
