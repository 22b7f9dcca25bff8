from pathlib import Path

import jax
import numpy as np
import pytest

from contrastive_jax.configuration import build, load
from contrastive_jax.distributed.mesh import MeshShape
from contrastive_jax.evaluation.embedding import Embedder, Listed
from contrastive_jax.training.experiment import Config, Experiment

CONFIGS = Path(__file__).parents[2] / "configs"
PICTURES = np.random.default_rng(0).integers(0, 255, (21, 32, 32), np.uint8)
SOURCE = Listed("made up", [{"image": picture} for picture in PICTURES])


@pytest.fixture(scope="module")
def experiment():
    return Experiment(build(load(f"{CONFIGS}/glyphs_faces.py:small", [], Config), Config), jax.devices()[:1])


@pytest.fixture(scope="module")
def params(experiment):
    return experiment.graph.init(jax.random.key(0))


def embedder(experiment, params, devices=1, batch_size=8, **keywords):
    mesh = MeshShape().make(jax.devices()[:devices])
    return Embedder(experiment.graph, experiment.config.data.views, params, mesh, batch_size, **keywords)


def test_embeddings_depend_neither_on_the_batch_size_nor_on_the_mesh(experiment, params):
    expected = embedder(experiment, params, batch_size=21)("a", SOURCE)
    assert expected.shape == (21, 32)
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, rtol=1e-5)
    for devices, batch_size in [(1, 8), (1, 64), (8, 1), (8, 20)]:
        found = embedder(experiment, params, devices, batch_size)("a", SOURCE)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_chosen_records_in_their_order(experiment, params):
    embed = embedder(experiment, params)
    everything = embed("a", SOURCE)
    chosen = [20, 3, 3, 0, 7, 11, 12, 13, 1]
    np.testing.assert_array_equal(embed("a", SOURCE, chosen), everything[chosen])
    np.testing.assert_array_equal(embed("b", SOURCE), everything)  # one encoder, no randomness


def test_what_is_raised_between_batches_ends_it(experiment, params):
    class Enough(Exception):  # noqa: N818
        pass

    calls = []

    def between():
        calls.append(None)
        if len(calls) == 2:
            raise Enough

    with pytest.raises(Enough):
        embedder(experiment, params, between=between)("a", SOURCE)
    assert len(calls) == 2
