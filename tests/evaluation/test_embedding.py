from pathlib import Path

import jax
import numpy as np
import pytest

from contrastive_jax.configuration import build, load
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.distributed.mesh import MeshShape
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation import Geometry, Neighbours, ReIdentification, embedding
from contrastive_jax.evaluation.embedding import Embedder, Listed, Shown
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


def test_the_first_numbers_of_an_embedding(experiment, params):
    """Of unit length again, of a branch and of a stage; all of them are the branch itself."""
    embed = embedder(experiment, params)
    for name in ("a", "a.encoder"):
        whole = embed(name, SOURCE)
        for size in (1, 8, whole.shape[1]):
            first = whole[:, :size] / np.linalg.norm(whole[:, :size], axis=1, keepdims=True)
            np.testing.assert_allclose(embed(f"{name}@{size}", SOURCE), first, atol=2e-6)
    assert embed.view("a@8") is embed.view("a.encoder@8") is embed.view("a")
    for name, message in (
        ("a@0", "from 1 to 32"),
        ("a@33", "from 1 to 32"),
        ("a@x", "@N"),
        ("c@4", "branch 'c'"),
    ):
        with pytest.raises(InputError, match=message):
            embed(name, SOURCE)


def test_evaluators_of_the_first_numbers(experiment, params):
    """Any evaluator takes a branch so; a figure at all numbers is that of the branch."""
    embed = embedder(experiment, params, remember=True)
    source = Listed("made up", [{"image": x, "record": i, "label": i % 4} for i, x in enumerate(PICTURES)])
    for kind in (lambda b: ReIdentification(b), lambda b: Geometry(b), lambda b: Neighbours(b, k=3)):
        whole, same, few = (dict(kind(branch).run(embed, source)) for branch in ("a", "a@32", "a@2"))
        assert list(whole.values()) == pytest.approx(list(same.values()), abs=1e-6)
        assert list(whole.values()) != pytest.approx(list(few.values()), abs=1e-3)


def test_a_stage_of_a_branch(experiment, params):
    """What the encoder gives, of unit length; the last head's is the branch itself."""
    embed = embedder(experiment, params)
    whole, graph = embed("a", SOURCE), experiment.graph
    np.testing.assert_array_equal(embed("a.projector", SOURCE), whole)
    encoded = embed("a.encoder", SOURCE)
    encode = jax.jit(lambda params, view: graph.encode(params, "a", view, train=False, key=None))
    expected = encode(params, PICTURES[..., None])
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoded, expected, atol=2e-6)
    assert np.abs(encoded - whole).max() > 0.01
    for name, message in (
        ("c", "branch 'c' is unknown"),
        ("a.head", "no stage 'head'; known: encoder, proj"),
    ):
        with pytest.raises(InputError, match=message):
            embed(name, SOURCE)


def test_the_same_records_are_embedded_once(experiment, params):
    calls = []
    embed = embedder(experiment, params, between=lambda: calls.append(None), batch_size=64, remember=True)
    first = embed("a", SOURCE)
    assert embed("a", SOURCE, np.arange(21)) is first
    assert len(calls) == 1
    np.testing.assert_array_equal(embed("a", SOURCE, [3, 5]), first[[3, 5]])
    embed("b", SOURCE)
    embed("a", Listed("made up", SOURCE.records))  # of the same name, and another source
    assert len(calls) == 4
    shown = Shown(Listed("other", [{"face": picture} for picture in PICTURES]), "face", "image")
    np.testing.assert_array_equal(embed("a", shown), first)
    embed("a", Shown(shown.source, "face", "image"))
    assert len(calls) == 5
    assert shown.column("image") == shown.source.column("face")
    with pytest.raises(BrokenRecord, match="no field 'faces'"):
        embed("a", Shown(shown.source, "faces", "image"))


def test_what_is_remembered_is_bounded(experiment, params, monkeypatch):
    monkeypatch.setattr(embedding, "KEPT_BYTES", 21 * 32 * 4)
    calls = []
    embed = embedder(experiment, params, between=lambda: calls.append(None), batch_size=64, remember=True)
    for branch in ("a", "b", "b", "a"):
        embed(branch, SOURCE)
    assert len(calls) == 3
