"""A store that fails while records are read: tried again, then the end of it by name; never another batch."""

import errno
import io
import json
import logging
import os
import pickle
import tarfile

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from array_record.python.array_record_module import ArrayRecordWriter
from faulty_store import FaultyProxy
from moto.server import ThreadedMotoServer
from PIL import Image

from contrastive_jax.data import faults, ranges
from contrastive_jax.data.faults import Access, StoreFault, is_passing, retried
from contrastive_jax.data.pipeline import batches
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.samplers import Permutation
from contrastive_jax.data.serialization import encode
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Photo
from contrastive_jax.errors import CommandError, InputError

COUNT = 24
IMPATIENT = Access(retry_seconds=0)


def picture(number):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 2 * number, 3 * number)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def store():
    """A bucket with the same pictures in every format, behind a proxy."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = FaultyProxy(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": proxy.endpoint,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }.items():
            patch.setenv(name, value)
        # Those of the store's own library would hide what is tested here.
        patch.setattr(s3fs.S3FileSystem, "retries", 1)
        s3fs.S3FileSystem.clear_instance_cache()  # of another server's address
        client = boto3.client("s3")
        client.create_bucket(Bucket="faults")
        for key, content in _sets().items():
            client.put_object(Bucket="faults", Key=key, Body=content)
        yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.stop()
    server.stop()


def _sets():
    pictures = [picture(number) for number in range(COUNT)]
    found = {f"f/{number:02d}.png": content for number, content in enumerate(pictures)}
    found |= {f"l/{number:02d}.png": content for number, content in enumerate(pictures)}
    found["l/list.jsonl"] = b"".join(b'{"image": "%02d.png"}\n' % number for number in range(COUNT))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, content in enumerate(pictures):
            entry = tarfile.TarInfo(f"{number:02d}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    found["w/a.tar"] = buffer.getvalue()
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": pictures}), buffer, row_group_size=4)
    return found | {"p/a.parquet": buffer.getvalue()}


SPECS = {
    "webdataset": "webdataset:s3://faults/w/a.tar",
    "jsonl": "jsonl:s3://faults/l/list.jsonl",
    "folder": "folder:s3://faults/f",
    "parquet": "parquet:s3://faults/p/a.parquet?cache=0",
}


@pytest.fixture(params=SPECS)
def spec(request, store, tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(faults, "_FIRST_PAUSE", 0.01)
    store.failing = 0
    yield SPECS[request.param]
    store.failing = 0


def read(source):
    sampler = Permutation().bind(source, 4, seed=0)
    made = batches(source, sampler, {"image": Photo(resolution=8)}, fields=("record",), seed=0, steps=3)
    with made as stream:
        return list(stream)


def test_a_store_that_recovers_changes_nothing(spec, store, caplog):
    source = open_source(spec)
    undisturbed = read(source)
    with caplog.at_level(logging.WARNING, "contrastive_jax"):
        store.failing = 4
        disturbed = read(source)
    assert store.failing == 0
    assert "trying again for 60 s" in caplog.text
    for batch, other in zip(undisturbed, disturbed, strict=True):
        assert int(other["broken"]) == 0
        np.testing.assert_array_equal(batch["fields"]["record"], other["fields"]["record"])
        np.testing.assert_array_equal(batch["views"]["image"], other["views"]["image"])


def test_a_store_that_fails_for_ever_ends_it_by_name(spec, store):
    source = pickle.loads(pickle.dumps(open_source(spec, IMPATIENT)))
    store.failing = None
    with pytest.raises(StoreFault) as error:
        read(source)
    assert isinstance(error.value, CommandError)
    text = str(error.value)
    assert text.startswith(f"{source.name}, record ")
    assert "s3://faults/" in text
    assert "\n" not in text
    assert len(text) < 400
    assert "run the same command again" in text


def test_a_store_that_fails_when_a_source_is_opened(spec, store, monkeypatch):
    """Not the user's mistake, for which a job would be given up."""
    store.failing = 3
    assert len(open_source(spec)) == COUNT
    monkeypatch.setattr(faults, "RETRY_SECONDS", 0.0)
    store.failing = None
    with pytest.raises(StoreFault, match="s3://faults/"):
        open_source(spec.replace("?cache=0", ""))


def test_what_is_not_there_is_no_fault(spec, store):
    for name in ("none/x", "none"):
        with pytest.raises(InputError, match=r"no file|no such|no picture|cannot read"):
            open_source(f"{spec.partition(':')[0]}:s3://faults/{name}")
    source = open_source("jsonl:s3://faults/l/list.jsonl")
    source._named[0]._folder = "s3://faults/elsewhere"
    with pytest.raises(BrokenRecord, match=r"'00\.png' \(.*"):
        source[0]


def test_a_store_that_has_gone(store, tmp_path, monkeypatch):
    """Nobody listens at its address any more."""
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path))
    own = FaultyProxy(store.endpoint.split("/")[2].split(":")[0], int(store.endpoint.rsplit(":", 1)[1]))
    monkeypatch.setenv("AWS_ENDPOINT_URL", own.endpoint)
    s3fs.S3FileSystem.clear_instance_cache()
    source = open_source(SPECS["jsonl"], IMPATIENT)
    assert source[0]["image"] == picture(0)
    own.stop()
    with pytest.raises(StoreFault, match=r"list\.jsonl cannot be read \(EndpointConnectionError: Could not"):
        source[0]
    s3fs.S3FileSystem.clear_instance_cache()


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
    failing[0] = 10**9
    source = open_source(listed(tmp_path), IMPATIENT)
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


@pytest.mark.parametrize("kind", ["arrayrecord", "parquet", "webdataset"])
def test_a_shard_that_is_cut_under_the_source(tmp_path, kind):
    path = tmp_path / f"a.{'tar' if kind == 'webdataset' else kind}"
    if kind == "arrayrecord":
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for number in range(COUNT):
            writer.write(encode({"n": number, "image": os.urandom(5000)}))
        writer.close()
    else:
        path.write_bytes(_sets()["w/a.tar" if kind == "webdataset" else "p/a.parquet"])
    source = open_source(f"{kind}:{path}", IMPATIENT)
    os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(StoreFault, match=f"{path}.*cannot be read"):
        source[COUNT - 2]


@pytest.mark.parametrize("kind", ["arrayrecord", "parquet"])
def test_a_shard_whose_bytes_are_bad_is_broken_for_ever(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "arrayrecord":
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for number in range(COUNT):
            writer.write(encode({"n": number, "image": os.urandom(5000)}))
        writer.close()
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


def test_how_long_it_is_tried(tmp_path, monkeypatch):
    now, slept = [0.0], []
    monkeypatch.setattr(faults.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(faults.random, "uniform", lambda low, high: high)

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(faults.time, "sleep", sleep)

    def fails():
        raise ConnectionError("refused")

    with pytest.raises(StoreFault, match=r"x cannot be read \(refused\)"):
        retried(fails, "x", 20)
    assert slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 3.7])
    with pytest.raises(FileNotFoundError):
        retried(lambda: os.stat(tmp_path / "nowhere"), "x", 20, settled=lambda error: True)


def test_what_passes():
    import aiohttp
    import botocore.exceptions as boto
    import fsspec.exceptions

    class Answer(Exception):  # noqa: N818
        def __init__(self, code):
            self.code = code

    passing = [
        boto.EndpointConnectionError(endpoint_url="x"),
        boto.ReadTimeoutError(endpoint_url="x"),
        boto.ConnectionClosedError(endpoint_url="x"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(),
        fsspec.exceptions.FSTimeoutError(),
        TimeoutError(),
        OSError(errno.EBUSY, "SlowDown"),
        OSError(errno.ESTALE, "stale"),
        Answer(503),
        Answer(429),
    ]
    for error in passing:
        assert is_passing(error), error
    for error in (
        boto.NoCredentialsError(),
        FileNotFoundError(2, "x"),
        PermissionError(13, "x"),
        Answer(404),
    ):
        assert not is_passing(error), error
