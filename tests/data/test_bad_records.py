"""Pictures and captions that are no good: counted and replaced while training, and named where they are."""

import io
import json
import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data.examples import evaluate_view
from contrastive_jax.data.pipeline import batches
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.samplers import Permutation
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.tokenizers import BytePairs
from contrastive_jax.data.views import Photo, Text

COUNT, BAD = 40, {3: "cannot be decoded", 7: "too large", 12: "text is empty", 20: "cannot be decoded"}
MODES = ("RGB", "L", "LA", "P", "RGBA", "CMYK", "1")


def contents(number):
    """A small picture of one of many modes, under whatever ending."""
    image = Image.fromarray(np.full((12, 16, 3), 5 * number, np.uint8)).convert(MODES[number % len(MODES)])
    file = io.BytesIO()
    image.save(file, "TIFF" if image.mode == "CMYK" else "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    pictures = [contents(number) for number in range(COUNT)]
    pictures[3] = b"this is a text"
    header = bytearray(pictures[7])
    header[16:24] = struct.pack(">II", 10_000, 10_000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    pictures[7] = bytes(header)
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(noise, "JPEG")
    pictures[20] = noise.getvalue()[: noise.tell() // 2]
    lines = []
    for number, content in enumerate(pictures):
        (folder / f"{number}.jpg").write_bytes(content)
        text = "  " if number == 12 else f"shade {number}"
        lines.append(json.dumps({"image": f"{number}.jpg", "text": text}))
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return open_source(f"jsonl:{folder}/pairs.jsonl")


@pytest.fixture(scope="module")
def views(source):
    tokenizer = BytePairs(vocabulary=60).train(source.column("text"))
    return {"image": Photo(resolution=8, flip=0.5), "text": Text(length=8).bind(tokenizer)}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_they_are_counted_named_and_replaced(source, views, caplog):
    caplog.set_level(logging.WARNING, "contrastive_jax")
    sampler = Permutation().bind(source, 20, seed=0)
    with batches(source, sampler, views, fields=("record",), seed=0, steps=2) as made:
        read = list(made)
    said = [record.message for record in caplog.records]
    # An epoch meets each bad one once; a replacement may be a bad one again, and is counted like it.
    assert len(said) == sum(batch["broken"] for batch in read) >= len(BAD)
    for number, reason in BAD.items():
        assert any(f"record {number}: " in line and reason in line for line in said)
    records = np.concatenate([batch["fields"]["record"] for batch in read])
    assert len(records) == COUNT
    assert not set(records) & set(BAD)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("number", [3, 7, 20])
def test_an_evaluation_stops_at_a_bad_picture(source, views, number):
    with pytest.raises(BrokenRecord, match=rf"record {number}: .*{BAD[number]}"):
        evaluate_view(source, views["image"], [0, number])
    assert evaluate_view(source, views["text"], [12]).tolist()[0][:3] == [2, 3, 0]
