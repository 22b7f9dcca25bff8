"""A store that fails under a run: the same batches if it recovers, else the end by name; nothing is lost."""

import json

import boto3
import pytest
from faulty_store import FaultyProxy
from moto.server import ThreadedMotoServer
from PIL import Image
from real_runs import ended, lines, message, steps, until, untimed

from contrastive_jax.data.glyphs import Glyphs

pytestmark = [pytest.mark.command, pytest.mark.slow]
TINY = (
    "steps=12",
    "checkpoint.every=4",
    "encoders.text.depth=1",
    "logging.tensorboard=False",
    "data.prefetch=1",
)


@pytest.fixture
def store(tmp_path, command, monkeypatch):
    """A bucket with 64 captioned pictures; the command finds it through a proxy that can fail."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = FaultyProxy(*server.get_host_and_port())
    place = {
        "AWS_ENDPOINT_URL": proxy.endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in place.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setitem(command.environment, name, value)
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", command.environment["CONTRASTIVE_JAX_CACHE"])
    client = boto3.client("s3")
    client.create_bucket(Bucket="run")
    glyphs = Glyphs("held_out", one_per_character=True)
    listing = []
    for index in range(64):
        Image.fromarray(glyphs[index]["image"]).save(tmp_path / "x.png")
        client.put_object(Bucket="run", Key=f"{index}.png", Body=(tmp_path / "x.png").read_bytes())
        listing.append(json.dumps({"image": f"{index}.png", "text": glyphs[index]["text"]}))
    client.put_object(Bucket="run", Key="captions.jsonl", Body="\n".join(listing).encode())
    yield proxy
    proxy.stop()
    server.stop()


CONFIG = dict(config="clip.py:small,source=jsonl:s3://run/captions.jsonl", tiny=TINY)


def test_a_store_that_fails_for_a_while(tmp_path, command, store):
    """The batches are those of a run that nothing disturbed."""
    straight, disturbed = tmp_path / "straight", tmp_path / "disturbed"
    command.run(straight, **CONFIG)
    process = command.start(disturbed, **CONFIG)
    until(lambda: lines(disturbed), process)
    store.failing = 25
    _, err = ended(process, code=0)
    assert store.failing == 0
    assert "trying again for 60 s" in err
    assert untimed(disturbed) == untimed(straight)
    assert sum(line["broken"] for line in lines(disturbed)) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_that_has_gone_for_good(tmp_path, command, store, workers):
    """The run ends by name with what it has learnt, and goes on as if nothing had been when it is back."""
    straight, ended_early = tmp_path / "straight", tmp_path / "ended"
    command.run(straight, **CONFIG)
    process = command.start(ended_early, "data.retry_seconds=1", f"data.workers={workers}", **CONFIG)
    until(lambda: lines(ended_early), process)
    store.failing = None
    _, err = ended(process, code=1)
    told = message(err, last=False) if workers else message(err)
    assert told.startswith("contrastive-jax: jsonl:s3://run/captions.jsonl, record ")
    assert "s3://run/" in told
    assert "cannot be read" in told
    assert told.endswith("run the same command again to go on")
    done = len(lines(ended_early))
    assert 1 <= done < 12
    assert steps(ended_early)[-1] == done  # not a step is lost
    store.failing = 0
    command.run(ended_early, **CONFIG)
    assert untimed(ended_early) == untimed(straight)


def test_a_store_that_is_away_when_a_run_begins(tmp_path, command, store):
    store.failing = None
    command.environment["AWS_MAX_ATTEMPTS"] = "1"
    _, err = command.run(tmp_path / "run", "data.retry_seconds=1", code=1, **CONFIG)
    assert "s3://run/captions.jsonl cannot be read" in message(err)
    assert not (tmp_path / "run").exists()
