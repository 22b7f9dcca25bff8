import os
import pickle

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from contrastive_jax.data.arrayrecord import ArrayRecord
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.serialization import encode
from contrastive_jax.errors import InputError


def write(path, contents):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for content in contents:
        writer.write(content)
    writer.close()
    return str(path)


def records(number):
    return [{"key": f"{number}-{n}", "image": bytes([n]) * 99, "text": f"é {n}", "n": n} for n in range(6)]


@pytest.fixture
def pattern(tmp_path):
    for number in range(2):
        write(tmp_path / f"s-{number:05d}.arrayrecord", map(encode, records(number)))
    return f"{tmp_path}/s-*.arrayrecord"


def test_records_are_those_that_were_written(pattern):
    source = pickle.loads(pickle.dumps(ArrayRecord(pattern)))
    expected = [record for number in range(2) for record in records(number)]
    assert list(source) == [record | {"record": n} for n, record in enumerate(expected)]
    for field in ("key", "text", "n", "record"):
        assert list(source.column(field)) == [record[field] for record in source]
    for field in ("image", "colour"):
        with pytest.raises(KeyError):
            source.column(field)
    with pytest.raises(IndexError):
        source[12]


def test_records_without_keys_and_damaged_ones(tmp_path):
    write(tmp_path / "t.arrayrecord", [encode({"n": 1}), encode({"n": 2})[:-2], encode({"n": 3})])
    source = ArrayRecord(str(tmp_path))
    assert source[2] == {"n": 3, "key": "t/2", "record": 2}
    with pytest.raises(BrokenRecord, match="damaged record"):
        source[1]
    assert source.column("n") == [1, "", 3]
    assert source.column("key") == ["t/0", "t/1", "t/2"]


def test_a_damaged_first_record_is_a_broken_one(tmp_path):
    path = write(tmp_path / "t.arrayrecord", [encode({"n": 1})[:-2], encode({"n": 2})])
    source = ArrayRecord(path)
    with pytest.raises(BrokenRecord, match="damaged record"):
        source[0]
    assert source[1]["n"] == 2


def test_more_files_than_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr("contrastive_jax.data.arrayrecord._KEPT_OPEN", 3)
    for number in range(20):
        write(tmp_path / f"{number:02d}.arrayrecord", [encode({"n": number})])
    before = len(os.listdir("/proc/self/fd"))
    source = ArrayRecord(str(tmp_path))
    assert [source[n]["n"] for n in (*range(20), 0)] == [*range(20), 0]
    assert source.column("n") == list(range(20))
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # three, and what the library holds itself


def test_files_of_another_kind(tmp_path):
    with pytest.raises(InputError, match="no file"):
        ArrayRecord(str(tmp_path / "x.arrayrecord"))
    path = write(tmp_path / "x.arrayrecord", [b"tf.Example or so"])
    with pytest.raises(InputError, match=r"not a record of ours.*`data prepare` writes"):
        ArrayRecord(path)
    write(tmp_path / "x.arrayrecord", [])
    with pytest.raises(InputError, match="no record in 1 files"):
        ArrayRecord(path)
    for content in (b"", b"text " * 99):
        (tmp_path / "x.arrayrecord").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.arrayrecord is no ArrayRecord file, or is torn"):
            ArrayRecord(path)


def test_a_torn_file_is_refused(pattern, tmp_path):
    path = tmp_path / "s-00001.arrayrecord"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"s-00001\.arrayrecord is no ArrayRecord file, or is torn"):
        ArrayRecord(pattern)
