"""A shard that is cut under a run of two processes: both end with code 1, and say whose record it was."""

import json
import os

import pytest
from fleet import lines
from PIL import Image

from contrastive_jax.data.glyphs import Glyphs

pytestmark = [pytest.mark.command, pytest.mark.slow]
CLIP = "clip.py:small,source=jsonl:"


def test_both_end_by_name(start, environment, tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", environment["CONTRASTIVE_JAX_CACHE"])
    glyphs = Glyphs("held_out", one_per_character=True)
    listing = tmp_path / "captions.jsonl"
    with open(listing, "w") as file:
        for index in range(64):
            Image.fromarray(glyphs[index]["image"]).save(tmp_path / f"{index}.png")
            file.write(json.dumps({"image": f"{index}.png", "text": glyphs[index]["text"]}) + "\n")
    options = (
        "steps=2000",
        "checkpoint.every=1000",
        "logging.every=1",
        "encoders.text.depth=1",
        "batch_size=16",
    )
    options = (*options, "logging.tensorboard=False", "data.prefetch=1", "data.retry_seconds=0.5")
    config = f"{os.path.dirname(__file__)}/../../configs/{CLIP}{listing}"
    part = start(tmp_path / "run", 2, *(f"--config.{option}" for option in options), config=config)
    part.until_step(3)
    os.truncate(listing, 100)
    codes, said = part.end(timeout=120)
    assert codes == [1, 1], said
    for text in said:
        told = [line for line in text.splitlines() if line.startswith("contrastive-jax: ")]
        assert len(told) == 1, text
        assert "captions.jsonl, record " in told[0]
        assert "has changed since it was opened first" in told[0]
        assert "Traceback" not in text
    assert len(lines(tmp_path / "run")) >= 3
