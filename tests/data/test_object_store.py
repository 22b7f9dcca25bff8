"""Sources in an object store: a real server that speaks S3 over HTTP on this machine."""

import io
import pickle
import subprocess
import sys
import tarfile

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from moto.server import ThreadedMotoServer

from contrastive_jax.data.faults import Access, StoreFault
from contrastive_jax.data.files import filesystem, stamp
from contrastive_jax.data.ranges import Parts
from contrastive_jax.data.serialization import encode
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch, tmp_path):
    """An empty bucket, and the environment by which anyone finds it."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "CONTRASTIVE_JAX_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    yield client
    for entry in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=entry["Key"])
    client.delete_bucket(Bucket="bucket")


def put(client, key, content):
    client.put_object(Bucket="bucket", Key=key, Body=content)


def shard(number, count=4):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for n in range(count):
            for kind, content in (("jpg", bytes([number, n]) * 700), ("txt", f"é {number} {n}".encode())):
                entry = tarfile.TarInfo(f"{n}.{kind}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_tars_are_indexed_once_and_then_read_by_ranges(bucket, tmp_path, monkeypatch):
    for number in range(3):
        put(bucket, f"w/{number:05d}.tar", shard(number))
    for pattern in ("s3://bucket/w/{00000..00002}.tar", "s3://bucket/w/*.tar", "s3://bucket/w"):
        source = open_source(f"webdataset:{pattern}")
        assert [record["text"] for record in source] == [f"é {m} {n}" for m in range(3) for n in range(4)]
    assert source[5]["image"] == bytes([1, 1]) * 700
    assert source[5]["key"] == "00001/1"
    assert len(list((tmp_path / "cache" / "indexes").iterdir())) == 3
    with monkeypatch.context() as patched:
        patched.setattr("contrastive_jax.data.tars.stream", lambda path: pytest.fail("read again"))
        again = open_source("webdataset:s3://bucket/w/*.tar")
        assert len(again) == 12
    read = []
    monkeypatch.setattr(
        Parts, "read", lambda self, number, start, length: read.append(length) or b"x" * length
    )
    again[3]
    assert 0 < sum(read) < 4000  # of a tar of 20 KB


def test_a_tar_that_changed_is_indexed_anew(bucket):
    put(bucket, "w/a.tar", shard(1))
    assert len(open_source("webdataset:s3://bucket/w/a.tar")) == 4
    put(bucket, "w/a.tar", shard(2)[:-1] + b"\0")  # of the same size
    assert open_source("webdataset:s3://bucket/w/a.tar").column("text")[0] == "é 2 0"


def test_an_object_that_is_gone_is_a_fault(bucket):
    put(bucket, "w/a.tar", shard(1))
    source = open_source("webdataset:s3://bucket/w/a.tar", Access(retry_seconds=0))
    bucket.delete_object(Bucket="bucket", Key="w/a.tar")
    with pytest.raises(StoreFault, match=r"s3://bucket/w/a\.tar cannot be read"):
        source[0]


def test_the_other_files(bucket, tmp_path):
    for number in range(2):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"text": [f"{number} {n}" for n in range(9)]}), buffer, row_group_size=4)
        put(bucket, f"p/{number}.parquet", buffer.getvalue())
    assert open_source("parquet:s3://bucket/p").column("text")[9:11] == ["1 0", "1 1"]
    assert open_source("parquet:s3://bucket/p/*.parquet")[17]["text"] == "1 8"
    put(bucket, "j/c.jsonl", b'{"image": "x/1.png", "text": "one"}\n{"text": "two"}\n')
    put(bucket, "j/x/1.png", b"picture")
    lines = open_source("jsonl:s3://bucket/j/c.jsonl")
    assert lines[0]["image"] == b"picture"
    assert lines.column("text") == ["one", "two"]
    put(bucket, "j/t.csv", b"a,b\n1,2\n")
    assert open_source("csv:s3://bucket/j/t.csv")[0]["b"] == "2"
    put(bucket, "f/cat/1.png", b"cat")
    put(bucket, "f/dog/2.png", b"dog")
    folder = open_source("folder:s3://bucket/f")
    assert [(record["label_name"], record["image"]) for record in folder] == [
        ("cat", b"cat"),
        ("dog", b"dog"),
    ]
    both = pickle.loads(pickle.dumps(open_source("parquet:s3://bucket/p + folder:s3://bucket/f")))
    assert both[18]["label_name"] == "cat"


def test_arrayrecord_is_fetched_into_the_cache(bucket, tmp_path):
    writer = ArrayRecordWriter(str(tmp_path / "s.arrayrecord"), "group_size:1")
    for n in range(3):
        writer.write(encode({"n": n}))
    writer.close()
    put(bucket, "a/s.arrayrecord", (tmp_path / "s.arrayrecord").read_bytes())
    for _ in range(2):
        source = open_source("arrayrecord:s3://bucket/a/*.arrayrecord")
        assert [record["n"] for record in source] == [0, 1, 2]
    assert len(list((tmp_path / "cache" / "fetched").iterdir())) == 1
    assert source[1]["key"] == "s/1"


def test_what_is_not_there_is_said_in_one_line(bucket):
    for spec in (
        "webdataset:s3://bucket/none/*.tar",
        "jsonl:s3://bucket/none.jsonl",
        "parquet:s3://none/x.parquet",
    ):
        with pytest.raises(InputError) as error:
            open_source(spec)
        assert spec.partition(":")[2] in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="nosuchprotocol"):
        open_source("webdataset:nosuchprotocol://b/x.tar")


@pytest.mark.slow
def test_other_processes_read_the_same(bucket):
    put(bucket, "w/a.tar", shard(1))
    source = open_source("webdataset:s3://bucket/w/a.tar")
    expected = source.column("text")  # this process has connections now
    code = "import pickle, sys; print(*pickle.load(sys.stdin.buffer).column('text'), sep='|', end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(source), capture_output=True, check=True
    )
    assert done.stdout.decode().split("|") == expected


def test_sizes_and_marks(bucket):
    put(bucket, "x", b"12345")
    first = stamp("s3://bucket/x")
    assert first[0] == 5
    assert stamp("s3://bucket/x") == first
    put(bucket, "x", b"54321")
    filesystem("s3://bucket/x").invalidate_cache()
    assert stamp("s3://bucket/x") != first
    with pytest.raises(InputError, match="cannot read s3://bucket/y"):
        stamp("s3://bucket/y")
