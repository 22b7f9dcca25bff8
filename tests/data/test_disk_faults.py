"""A disk that fails while records are read, and files that change under a source."""

import errno
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from picture_sets import COUNT, picture, sets

from contrastive_jax.data import ranges
from contrastive_jax.data.faults import Access, StoreFault
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.serialization import encode
from contrastive_jax.data.sources import open_source

IMPATIENT = Access(retry_seconds=0)


def listed(folder):
    for number in range(4):
        (folder / f"{number}.png").write_bytes(picture(number))
    lines = (json.dumps({"image": f"{number}.png", "n": number}) + "\n" for number in range(4))
    (folder / "list.jsonl").write_text("".join(lines))
    return f"jsonl:{folder}/list.jsonl"


def test_a_disk_that_fails_for_a_moment(tmp_path, monkeypatch):
    source, failing, pread = open_source(listed(tmp_path)), [3], os.pread

    def spoilt(*arguments):
        if failing[0]:
            failing[0] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return pread(*arguments)

    monkeypatch.setattr(ranges.os, "pread", spoilt)
    assert source[2]["n"] == 2
    assert failing == [0]
    source = open_source(listed(tmp_path), IMPATIENT)
    failing[0] = 10**9
    with pytest.raises(StoreFault, match=r"list\.jsonl cannot be read \(Input/output error\)"):
        source[1]


def test_a_file_that_another_one_has_replaced(tmp_path):
    """A handle that is stale is opened anew, but not onto other bytes."""
    spec = listed(tmp_path)
    source = open_source(spec, IMPATIENT)
    assert source[0]["n"] == 0
    (tmp_path / "new").write_bytes((tmp_path / "list.jsonl").read_bytes()[::-1])
    os.replace(tmp_path / "new", tmp_path / "list.jsonl")
    assert source[1]["n"] == 1  # it is still open
    os.truncate(f"/proc/self/fd/{source._parts._open[0]}", 3)
    with pytest.raises(StoreFault, match="has changed since it was opened first"):
        source[2]


def test_a_picture_that_the_disk_refuses(tmp_path, monkeypatch):
    source = open_source(listed(tmp_path), IMPATIENT)
    opened = os.open

    def refused(path, *arguments, **options):
        if str(path).endswith("1.png"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StoreFault, match=r"1\.png cannot be read \(Permission denied\)"):
        source[1]
    monkeypatch.undo()
    (tmp_path / "1.png").unlink()
    with pytest.raises(BrokenRecord, match=r"'1\.png' \(No such file"):
        source[1]


def write_records(path):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for number in range(COUNT):
        writer.write(encode({"n": number, "image": os.urandom(5000)}))
    writer.close()


@pytest.mark.parametrize("kind", ["arrayrecord", "parquet", "webdataset"])
def test_a_shard_that_is_cut_under_the_source(tmp_path, kind):
    path = tmp_path / f"a.{'tar' if kind == 'webdataset' else kind}"
    if kind == "arrayrecord":
        write_records(path)
    else:
        path.write_bytes(sets()["w/a.tar" if kind == "webdataset" else "p/a.parquet"])
    source = open_source(f"{kind}:{path}", IMPATIENT)
    os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(StoreFault, match=f"{path}.*cannot be read"):
        source[COUNT - 2]


@pytest.mark.parametrize("kind", ["arrayrecord", "parquet"])
def test_a_shard_whose_bytes_are_bad_is_broken_for_ever(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "arrayrecord":
        write_records(path)
    else:
        table = pa.table({"n": list(range(COUNT)), "image": [os.urandom(5000) for _ in range(COUNT)]})
        pq.write_table(table, path, row_group_size=1, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = bytes(6000)
    path.write_bytes(content)
    source, broken = open_source(f"{kind}:{path}", IMPATIENT), 0
    for index in range(COUNT):
        try:
            source[index]
        except BrokenRecord:
            broken += 1
    assert 1 <= broken <= 4
