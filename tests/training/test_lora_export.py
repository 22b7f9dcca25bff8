"""A run with adapters, exported: what is written is the model that they make."""

import json

import jax
import numpy as np
from safetensors.numpy import load_file
from small import CONFIGS

from contrastive_jax import interop
from contrastive_jax.configuration import load
from contrastive_jax.data.tokenizers import BytePairs
from contrastive_jax.encoders import KINDS
from contrastive_jax.interop.names import flatten
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.experiment import Config
from contrastive_jax.training.exporting import model
from contrastive_jax.training.trained import open_experiment, open_trained
from contrastive_jax.training.workdir import write_json

LORA = {"tower": {"parameters": "encoders/text/blocks/*", "rank": 2, "alpha": 6.0}}


def write_run(folder):
    """A work directory whose checkpoint has made-up parameters; the experiment and these."""
    folder.mkdir()
    config = json.loads(load(f"{CONFIGS}/sentences.py:small", [], Config).to_json())
    write_json(folder / "config.json", {**config, "lora": LORA})
    BytePairs(vocabulary=60).train(["a red square", "two blue circles"]).save(folder / "tokenizer.json")
    run, draw = open_experiment(folder), np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: 0.2 * draw.standard_normal(x.shape).astype(np.float32), run.state_structure.params
    )
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(3, {"step": np.int32(3), "params": jax.device_put(params)})
    return run, params


def test_what_is_exported_of_a_run_with_adapters_is_the_merged_model(tmp_path):
    run, params = write_run(tmp_path / "run")
    trained = open_trained(tmp_path / "run")
    made = model(trained.experiment, trained.views, jax.device_get(trained.params), trained.path)
    for form in ("sentence-transformers", "safetensors"):
        interop.save(form, made, tmp_path / form)

    merged = run.trainable.merged(params)
    stored = load_file(tmp_path / "safetensors" / "model.safetensors")
    assert set(stored) == set(flatten(merged))
    for name, array in flatten(merged).items():
        np.testing.assert_allclose(stored[name], array, atol=1e-6, err_msg=name)

    section = interop.architecture(tmp_path / "sentence-transformers", "text")
    encoder = KINDS[section.pop("kind")](**section)
    ids = np.random.default_rng(1).integers(1, 60, (4, 12)).astype(np.int32)

    def encoded(params):
        return jax.jit(lambda p: encoder.apply(p, ids, train=False, key=None).embedding)(params)

    loaded = encoded(interop.load(tmp_path / "sentence-transformers", "text", encoder))
    own = jax.jit(lambda p: run.graph.encode(p, "anchor", ids, train=False, key=None))
    np.testing.assert_allclose(loaded, own(merged), atol=1e-5)
    assert np.abs(loaded - own(params)).max() > 0.1  # adapters left out
