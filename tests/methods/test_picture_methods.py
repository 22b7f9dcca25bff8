"""Methods of pictures: what their configs promise."""

import dataclasses

import jax
import numpy as np
import pytest
from method_run import method

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.training.step import model_of, total_loss


@pytest.fixture(autouse=True)
def _data(data_folder, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))


def loss_and_gradient(run, state, batch):
    def objective(params):
        return total_loss(run.graph, run.losses, model_of(state, params), batch, jax.random.key(1), None)[0]

    with jax.set_mesh(run.mesh):
        return jax.jit(jax.value_and_grad(objective))(state.params)


def test_supcon_whose_labels_are_all_different_is_simclr():
    supcon, simclr = method("supcon", "small"), method("supcon", "small,ablation=simclr")
    with jax.set_mesh(supcon.mesh):
        state = supcon.initial_state()
        batch = jax.device_put(made_up_batch(supcon), by_example(supcon.mesh))
    value, gradient = loss_and_gradient(supcon, state, batch)
    other, of_other = loss_and_gradient(simclr, state, batch)
    np.testing.assert_allclose(value, other, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(of_other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_teacher_without_momentum_is_the_network_itself():
    run = method("moco_v2", "small,ablation=no_momentum")
    with jax.set_mesh(run.mesh):
        batch = jax.device_put(made_up_batch(run), by_example(run.mesh))
        state, _ = run.train_step()(run.initial_state(), batch)
    for part in ("encoders", "heads"):
        jax.tree.map(np.testing.assert_array_equal, state.teachers["key"][part], state.params[part])


@pytest.mark.parametrize(
    "name", ["byol", *(pytest.param(name, marks=pytest.mark.slow) for name in ("simsiam", "directpred"))]
)
def test_losses_without_negatives_lie_between_their_bounds(name):
    """2 - 2 cos of each direction; the projector hears of it through the predictor's side alone."""
    run = method(name, "small")
    with jax.set_mesh(run.mesh):
        state = run.initial_state()
        batch = jax.device_put(made_up_batch(run), by_example(run.mesh))
    value, gradient = loss_and_gradient(run, state, batch)
    assert 0 <= value <= 8
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["heads"]["projector"]))


def test_no_identity_comes_twice_in_a_batch():
    run = method("clip_reident")
    names = np.array(run.source.column("class_name"))
    for step in range(5):
        drawn = names[run.sampler(step)]
        assert (drawn[:, 0] == drawn[:, 1]).all()
        assert len(set(drawn[:, 0])) == run.config.batch_size
        assert (run.sampler(step)[:, 0] != run.sampler(step)[:, 1]).all()


def test_without_that_there_are_as_many_false_negatives_as_chance_says():
    """964 characters of 20 drawings: two rows, drawn without putting back, are one's with 19 / 19,279."""
    run = method("clip_reident", "ablation=random_sampler")
    names, size = np.array(run.source.column("class_name")), run.config.batch_size
    same = 0
    for step in range(100):
        drawn = names[run.sampler(step)[:, 0]]
        same += (drawn[:, None] == drawn[None, :]).sum() - size
    expected = 100 * size * (size - 1) * 19 / (len(names) - 1)
    assert same == pytest.approx(expected, rel=0.15)


def test_both_pictures_of_a_pair_are_flipped_together():
    views = method("clip_reident").config.data.views
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, :8] = 255
    flipped = set()
    for seed in range(8):
        pair = [view({"image": picture}, np.random.default_rng(seed), True) for view in views.values()]
        np.testing.assert_array_equal(*pair)
        flipped.add(bool(pair[0][8, 0, 0] < 128))
    assert flipped == {True, False}
    assert {view.together for view in views.values()} == {"pair"}


def test_mixed_barlow_without_its_weight_is_barlow():
    mixed, plain = (
        method("mixed_barlow_twins", "small"),
        method("mixed_barlow_twins", "small,ablation=barlow"),
    )
    losses = {"barlow": dataclasses.replace(mixed.losses["barlow"], mixed_weight=0.0)}
    with jax.set_mesh(mixed.mesh):
        state = mixed.initial_state()
        batch = jax.device_put(made_up_batch(mixed), by_example(mixed.mesh))
        model, key = model_of(state), jax.random.key(3)
        value = total_loss(mixed.graph, losses, model, batch, key, None)[0]
        assert total_loss(mixed.graph, mixed.losses, model, batch, key, None)[0] > value
        np.testing.assert_allclose(
            value, total_loss(plain.graph, plain.losses, model, batch, key, None)[0], rtol=1e-5
        )
