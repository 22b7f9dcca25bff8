import gzip
import json
import os
import pickle
import subprocess
import sys

import pytest

from contrastive_jax.data import bounds, delimited, lines, unpacking
from contrastive_jax.data.delimited import CSV
from contrastive_jax.data.lines import JSONLines
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import CommandError, InputError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"n": %d}\n' % n for n in range(9))))
    return path


def copies(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


def test_a_large_file_is_unpacked_once_into_the_cache(cache, packed, monkeypatch, caplog):
    small = list(JSONLines(str(packed)))
    assert not copies(cache)
    monkeypatch.setattr(unpacking, "WORTH_KEEPING", 10)
    source = JSONLines(str(packed))
    (copy,) = copies(cache)
    assert copy.read_bytes() == gzip.decompress(packed.read_bytes())
    assert list(source) == list(pickle.loads(pickle.dumps(source))) == small
    assert caplog.text.count("unpacking") == 1
    packed.write_bytes(gzip.compress(b'{"n": 10}\n{"n": 11}\n'))
    assert JSONLines(str(packed)).column("n") == [10, 11]
    assert len(copies(cache)) == 2


def test_what_becomes_too_much_is_refused_and_leaves_nothing(cache, packed, monkeypatch):
    monkeypatch.setattr(unpacking, "WORTH_KEEPING", 10)
    monkeypatch.setattr(bounds, "UNPACKED_BYTES", 80)
    monkeypatch.setattr(bounds, "UNPACKED_TIMES", 1)
    with pytest.raises(
        InputError, match=rf"c\.jsonl\.gz \({packed.stat().st_size} bytes\) unpacks to more than 80"
    ):
        JSONLines(str(packed))
    assert not [*(cache / "unpacked").iterdir()]
    monkeypatch.setattr(bounds, "UNPACKED_TIMES", 2)
    assert len(JSONLines(str(packed))) == 9


def test_no_place_for_the_copy_is_named(cache, packed, monkeypatch):
    monkeypatch.setattr(unpacking, "WORTH_KEEPING", 10)
    cache.write_text("a file")
    with pytest.raises(InputError, match=r"cannot be unpacked to .*cache/unpacked.*CONTRASTIVE_JAX_CACHE"):
        JSONLines(str(packed))


def test_a_disk_without_room_ends_the_command_as_a_fault(cache, packed, monkeypatch, little_room):
    monkeypatch.setattr(unpacking, "WORTH_KEEPING", 10)
    named = pytest.raises(CommandError, match=r"cannot be unpacked to .*cache/unpacked.*make room there")
    with named, little_room(20):
        JSONLines(str(packed))
    assert not copies(cache)


def test_what_is_no_gzip_says_nothing_of_the_cache(cache, tmp_path):
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(b"text")
    with pytest.raises(InputError, match=r"c\.jsonl\.gz cannot be unpacked \(Not a gzipped file") as error:
        JSONLines(str(path))
    assert str(cache) not in str(error.value)


def test_a_bomb_costs_little_memory(cache, tmp_path):
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb") as file:
        for _ in range(270):
            file.write(b"[" * (1 << 20))
    code = "import sys; from contrastive_jax.data.lines import JSONLines; JSONLines(sys.argv[1])"
    command = ["bash", "-c", 'ulimit -d 300000; exec "$@"', "bash", sys.executable, "-c", code]
    done = subprocess.run([*command, str(tmp_path / "bomb.jsonl.gz")], capture_output=True, text=True)
    assert "InputError" in done.stderr.splitlines()[-1]
    assert "unpacks to more than 268,435,456 bytes" in done.stderr
    assert not [*(cache / "unpacked").iterdir()]


def test_a_line_without_end_is_one_broken_record(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LINE_BYTES", 64)
    content = ['{"n": 0}', " " * 200, json.dumps({"text": "x" * 200}), '{"n": 3}', "\t" * 100, "x" * 100]
    (tmp_path / "c.jsonl").write_text("\n".join(content))
    source = JSONLines(str(tmp_path / "c.jsonl"))
    assert len(source) == 4
    assert source.column("n") == [0, "", 3, ""]
    with pytest.raises(BrokenRecord, match=r"line 3: it is 213 bytes, and at most 64 are read"):
        source[1]
    with pytest.raises(BrokenRecord, match="line 6: "):
        source[3]


@pytest.mark.parametrize("row", ["x" * 100, '"' + "x\n" * 40 + '"', '"x\n",' * 30])
def test_a_row_without_end_is_refused(tmp_path, monkeypatch, row):
    monkeypatch.setattr(delimited, "LINE_BYTES", 64)
    (tmp_path / "c.csv").write_text(f"a,b\n1,2\n{row}\n3,4\n")
    with pytest.raises(InputError, match=r"c\.csv, line 3: a row of more than 64 bytes"):
        CSV(str(tmp_path / "c.csv"))


def test_a_sparse_file_is_no_memory(tmp_path):
    with (tmp_path / "c.jsonl").open("wb") as file:
        file.write(b'{"n": 1}\n')
        os.truncate(tmp_path / "c.jsonl", 1 << 28)
    source = JSONLines(str(tmp_path / "c.jsonl"))
    assert source[0]["n"] == 1
    with pytest.raises(BrokenRecord, match=r"line 2: it is 268,435,447 bytes"):
        source[1]
