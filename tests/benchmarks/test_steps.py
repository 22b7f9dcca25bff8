"""The train step of a config on a made-up batch."""

from pathlib import Path

import jax
import numpy as np
import pytest

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.benchmarks.steps import measure
from contrastive_jax.configuration import build, load
from contrastive_jax.errors import InputError
from contrastive_jax.training.experiment import Config, Experiment

CONFIGS = Path(__file__).parents[2] / "configs"


def experiment(name, devices, **overrides):
    pairs = [(key.replace("__", "."), str(value)) for key, value in overrides.items()]
    config = build(load(f"{CONFIGS}/{name}", pairs, Config), Config)
    return Experiment(config, jax.devices()[:devices])


def test_a_batch_as_the_views_declare_it():
    made = experiment("glyphs.py:small", 1, batch_size=8)
    batch = made_up_batch(made)
    assert set(batch["fields"]) == set(made.fields)
    for name, view in made.config.data.views.items():
        structure = view.structure()
        assert batch["views"][name].shape == (8, *structure.shape)
        assert batch["views"][name].dtype == structure.dtype
        assert batch["views"][name].min() >= 1
    assert all(len(np.unique(ids)) == 8 for ids in batch["fields"].values())


def test_figures_of_a_step_on_two_devices():
    small = experiment(
        "glyphs.py:small",
        2,
        batch_size=16,
        encoders__image__depth=1,
        encoders__text__depth=1,
    )
    found = measure(small, 7)
    assert (found["batch"], found["microbatch"]) == (16, None)
    assert found["mesh"] == {"data": 2, "fsdp": 1, "tensor": 1}
    assert found["pairs_per_second"] == 16 / found["seconds"]
    assert found["loss_share"] == found["loss_seconds"] / found["seconds"]
    assert found["temp_bytes"] > 0
    # the sum of every parameter's gradient over the two devices
    assert found["collective_bytes"]["all-reduce"] >= 4 * found["parameters"]
    assert found["argument_bytes"] > 3 * 4 * found["parameters"]


def test_another_mode_is_refused():
    made = experiment("glyphs.py:small", 1, batch_size=8, microbatch=4, mode="out_of_core")
    with pytest.raises(InputError, match=r"config.mode=out_of_core: .*--config.mode=in_core"):
        measure(made)
