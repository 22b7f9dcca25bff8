"""A run of configs/clip.py, trained and exported by the command, as the other libraries load it."""

import json
from pathlib import Path

import jax
import numpy as np
import open_clip
import pytest
import torch
import transformers
from agreement import TOLERANCE, error
from PIL import Image

from contrastive_jax import cli
from contrastive_jax.training.trained import open_trained

CONFIG = Path(__file__).parents[1] / "configs" / "clip.py"
COLOURS = ("red", "green", "blue", "yellow", "white")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of a few steps, its pictures and captions."""
    folder = tmp_path_factory.mktemp("run")
    random, lines = np.random.default_rng(0), []
    for n in range(40):
        array = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / f"{n}.png")
        lines.append({"image": f"{n}.png", "text": f"picture {n} is {COLOURS[n % 5]}, not {COLOURS[n % 4]}"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = f"{CONFIG}:small,source=jsonl:{folder}/pairs.jsonl"
    code = cli.main(("train", "--config", config, "--workdir", f"{folder}/run", "--config.steps=4"))
    assert code == 0
    return folder


def exported(run, format, output):
    assert cli.main(("export", "--workdir", f"{run}/run", "--format", format, "--output", str(output))) == 0
    texts = [json.loads(line)["text"] for line in (run / "pairs.jsonl").read_text().splitlines()[:7]]
    pictures = [Image.open(run / f"{n}.png") for n in range(7)]
    trained = open_trained(run / "run")
    views = trained.views
    batch = {
        "image": np.stack([views["image"]({"image": np.asarray(p)}, None, False) for p in pictures]),
        "text": np.stack([views["text"]({"text": text}, None, False) for text in texts]),
    }
    graph = trained.experiment.graph

    @jax.jit
    def embed(params):
        encoded = {n: graph.encode(params, n, batch[n], train=False, key=None) for n in batch}
        return {n: graph.finish(params, n, encoded[n], train=False, key=None) for n in batch}

    return embed(trained.params), batch, pictures, texts


def test_transformers(run, tmp_path):
    ours, batch, pictures, texts = exported(run, "huggingface", tmp_path / "out")
    theirs = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "out")
    inputs = processor(text=texts, images=pictures, padding=True, truncation=True, return_tensors="pt")
    ids = inputs["input_ids"].numpy()
    np.testing.assert_array_equal(ids, batch["text"][:, : ids.shape[1]])
    # Pictures are resized by other code, a level apart here and there: ours go through both models.
    pixels = torch.tensor(np.moveaxis(batch["image"] / np.float32(127.5) - 1, -1, 1))
    np.testing.assert_allclose(inputs["pixel_values"], pixels, atol=0.01)
    with torch.no_grad():
        found = theirs(**{**inputs, "pixel_values": pixels})
    assert error(ours["image"], found.image_embeds) < TOLERANCE
    assert error(ours["text"], found.text_embeds) < TOLERANCE


def test_open_clip(run, tmp_path):
    ours, batch, _, texts = exported(run, "open_clip", tmp_path / "out")
    theirs, _ = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}/out")
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path}/out")(texts)
    np.testing.assert_array_equal(ids, batch["text"])
    pixels = torch.tensor(np.moveaxis(batch["image"] / np.float32(127.5) - 1, -1, 1))
    with torch.no_grad():
        image = theirs.eval().encode_image(pixels, normalize=True)
        text = theirs.encode_text(ids, normalize=True)
    assert error(ours["image"], image) < TOLERANCE
    assert error(ours["text"], text) < TOLERANCE
