"""The limits of a config reach the source that a run reads."""

from pathlib import Path

import pytest

from contrastive_jax.configuration import build, load
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError
from contrastive_jax.training.experiment import Config, Experiment

CLIP = Path(__file__).parents[2] / "configs" / "clip.py"


def experiment(listing, *overrides):
    pairs = [("encoders.text.depth", "1"), *overrides]
    return Experiment(build(load(f"{CLIP}:small,source=jsonl:{listing}", pairs, Config), Config))


def test_they_do(tmp_path):
    (tmp_path / "x.png").write_bytes(b"123456789")
    (tmp_path / "c.jsonl").write_text(
        '{"image": "x.png", "text": "a"}\n{"image": "http://h/x", "text": "b"}\n'
    )
    listing = tmp_path / "c.jsonl"
    source = experiment(listing, ("data.file_bytes", "8"), ("data.retry_seconds", "0.5")).source
    with pytest.raises(BrokenRecord, match=r"'x\.png' has more than 8 bytes"):
        source[0]
    assert source._access.retry_seconds == 0.5
    source = experiment(listing).source
    assert source[0]["image"] == b"123456789"
    with pytest.raises(BrokenRecord, match=r"allow it by \?allow=http"):
        source[1]
    for key, value in (("data.file_bytes", "0"), ("data.retry_seconds", "-1")):
        with pytest.raises(InputError, match=f"config.{key}"):
            experiment(listing, (key, value))
