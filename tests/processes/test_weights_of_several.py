"""Several processes begin from the same weights, those of one process."""

import json
import shutil

import jax
import numpy as np
import pytest
from fleet import UNMEASURED, lines
from safetensors.numpy import save_file

from contrastive_jax import interop
from contrastive_jax.encoders import KINDS
from contrastive_jax.interop import names

pytestmark = [pytest.mark.command, pytest.mark.slow]
STEPS = ["--config.steps=2", "--config.checkpoint.every=2"]
CONFIG = """
import runpy
from contrastive_jax.training.starting import architecture

def get_config(arg):
    config = runpy.run_path("{base}")["get_config"]()
    config.encoders.image = architecture("{library}", "image")
    config.init_from = dict(
        image=dict(path="{library}"),
        rest=dict(path="{run}", parts=("encoders/text", "heads/*", "losses/*")),
    )
    config.lora = dict(text=dict(parameters="encoders/text/*/attention/*", rank=2))
    config.frozen = ("encoders/image/*", "encoders/text/*")
    return config
"""
VIT = {
    "model_type": "vit",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 1,
}


def write_library(folder):
    """A folder as Hugging Face's ViT writes it, for the glyphs."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(VIT))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5]}))
    save_file({"a": np.zeros(1, np.float32)}, folder / "model.safetensors")
    weights = interop.read(folder)
    section, draw = interop.architecture(weights, "image"), np.random.default_rng(0)
    encoder = KINDS[section.pop("kind")](**section)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 1), np.uint8))
    params = jax.tree.map(lambda x: 0.2 * draw.standard_normal(x.shape).astype(np.float32), shapes)
    rows = interop.family_of(weights).table(weights, "image", encoder).rows
    save_file(names.save(rows, names.flatten(params)), folder / "model.safetensors")


def test_two_processes_begin_as_one_does(start, tmp_path):
    """From a run and from a library, on a mesh that shards parameters, with adapters."""
    library, run = tmp_path / "vit", tmp_path / "run"
    write_library(library)
    assert start(run, 1, *STEPS).end()[0] == [0]
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(base=UNMEASURED, library=library, run=run))
    found = []
    for count, mesh in ((1, []), (2, []), (2, ["--config.mesh.fsdp=2", "--config.mesh.data=1"])):
        workdir = tmp_path / f"begun{len(found)}"
        codes, said = start(workdir, count, *STEPS, *mesh, config=config).end()
        assert codes == [0] * count, said
        assert "init_from.image: encoders/image" in said[0]
        found.append([(line["loss"], line["gradient_norm"]) for line in lines(workdir)])
    assert len(found[0]) == 2
    for several in found[1:]:
        np.testing.assert_allclose(several, found[0], rtol=1e-5)
    (run / "checkpoints" / "2").rename(run / "checkpoints" / "3")
    shutil.rmtree(run / "checkpoints" / "3" / "state")
    codes, said = start(tmp_path / "none", 2, *STEPS, config=config).end()
    assert codes == [2, 2], said
    assert all("config.init_from.rest.path=" in text and "Traceback" not in text for text in said)
    assert not (tmp_path / "none").exists()
