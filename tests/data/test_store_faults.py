"""A store that fails while records are read: tried again, then the end of it by name; never another batch."""

import errno
import logging
import os
import pickle

import boto3
import numpy as np
import pytest
import s3fs
from faulty_store import FaultyProxy
from moto.server import ThreadedMotoServer
from picture_sets import COUNT, picture, sets

from contrastive_jax.data import faults
from contrastive_jax.data.faults import Access, StoreFault, is_passing, retried
from contrastive_jax.data.pipeline import batches
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.samplers import Permutation
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Photo
from contrastive_jax.errors import CommandError, InputError

IMPATIENT = Access(retry_seconds=0)


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
        for key, content in sets().items():
            client.put_object(Bucket="faults", Key=key, Body=content)
        yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
    proxy.stop()
    server.stop()


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
