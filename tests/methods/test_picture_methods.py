"""Methods of pictures: what their configs promise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from method_run import embeddings, method, weighed

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.losses import softmax_contrastive
from contrastive_jax.training.step import encode_branches, model_of, total_loss


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
    ("name", "most"),
    [
        ("byol", 8),
        pytest.param("simsiam", 2, marks=pytest.mark.slow),
        pytest.param("directpred", 8, marks=pytest.mark.slow),
    ],
)
def test_losses_without_negatives_lie_between_their_bounds(name, most):
    """2 - 2 cos of both directions, of SimSiam a quarter of it; and the projector has a gradient."""
    run = method(name, "small")
    with jax.set_mesh(run.mesh):
        state = run.initial_state()
        batch = jax.device_put(made_up_batch(run), by_example(run.mesh))
    value, gradient = loss_and_gradient(run, state, batch)
    assert 0 <= value <= most
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["heads"]["projector"]))


def test_simsiam_is_its_negative_cosine_and_one():
    """From 0 to 2, with no gradient in targets: the paper's loss is from -1 to 1."""
    run = method("simsiam", "small")
    z = embeddings(run)
    run_loss = jax.jit(jax.value_and_grad(lambda z: weighed(run, z)[0]))

    def closed(z):
        ab, ba = (jnp.sum(z[p] * z[f"{t}.projector"], axis=1).mean() for p, t in ("ab", "ba"))
        return 1 - (ab + ba) / 2

    value, gradient = run_loss(z)
    np.testing.assert_allclose(value, closed(z), rtol=1e-6)
    wanted = jax.grad(closed)(z)
    for one, other in ("ab", "ba"):
        assert not gradient[f"{other}.projector"].any()
        along = jnp.sum(wanted[one] * z[one], axis=1, keepdims=True) * z[one]  # cosines do not see lengths
        np.testing.assert_allclose(gradient[one], wanted[one] - along, atol=1e-7)
        assert np.abs(gradient[one]).max() > 1e-3
    for sign, bound in ((1, 0), (-1, 2)):
        ends = {"a": sign * z["b.projector"], "b": sign * z["a.projector"]}
        np.testing.assert_allclose(run_loss(z | ends)[0], bound, atol=1e-6)


def test_simsiam_with_a_gradient_into_its_target_is_the_same_number():
    run, other = method("simsiam", "small"), method("simsiam", "small,ablation=no_stop_gradient")
    z = embeddings(run)
    value, gradient = jax.jit(jax.value_and_grad(lambda z: weighed(other, z)[0]))(z)
    np.testing.assert_allclose(value, weighed(run, z)[0], rtol=1e-5)
    assert all(np.abs(gradient[f"{view}.projector"]).max() > 1e-3 for view in "ab")


@pytest.mark.parametrize(("arguments", "tau"), [("small", 0.2), ("paper", 1.0)])
def test_moco_v3_is_two_temperatures_times_both_directions(arguments, tau):
    run = method("moco_v3", arguments)
    z = embeddings(run)

    def closed(z):
        found = [
            softmax_contrastive(z[query], z[key], scale=1 / tau, symmetric=False).value
            for query, key in (("a", "key_b"), ("b", "key_a"))
        ]
        return 2 * tau * sum(found)

    value, gradient = jax.jit(jax.value_and_grad(lambda z: weighed(run, z)[0]))(z)
    want, wanted = jax.jit(jax.value_and_grad(closed))(z)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    for query in ("a", "b"):
        assert np.abs(gradient[query]).max() > 1e-3
        np.testing.assert_allclose(gradient[query], wanted[query], rtol=1e-5, atol=1e-7)


def test_a_step_moves_the_correlation_of_directpred_twice():
    """Once a branch: the second one's has seen the first. Projections count as they are, not normalised."""
    run = method("directpred", "small")
    with jax.set_mesh(run.mesh):
        state, rho = run.initial_state(), run.graph.heads["predictor"].rho
        batch = jax.device_put(made_up_batch(run), by_example(run.mesh))
        F = state.statistics["predictor"]["correlation"]
        assert not F.any()
        F = jnp.asarray(np.diag(np.arange(1.0, 1 + len(F))), jnp.float32)
        state = state._replace(statistics=state.statistics | {"predictor": {"correlation": F}})

        def projected(name, encoded):
            head, statistics = run.graph.heads["projector"], state.statistics["projector"]
            params = state.params["heads"]["projector"]
            return head.apply(params, encoded, train=True, key=None, statistics=statistics)[0]

        @jax.jit
        def correlations():
            key = jax.random.fold_in(state.key, state.step)
            encoded = encode_branches(run.graph, model_of(state), batch["views"], key, None, names="ab")
            z = [projected(name, rows) for name, rows in encoded.items()]
            return [rows.T @ rows / len(rows) for rows in z]

        first, second = map(np.asarray, correlations())
        want = rho**2 * np.asarray(F) + rho * (1 - rho) * first + (1 - rho) * second
        state, _ = run.train_step()(state, batch)
    found = state.statistics["predictor"]["correlation"]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    turned = want + (1 - rho) ** 2 * (first - second)  # as the other order would have it
    assert np.abs(found - turned).max() > 1e-2 * np.abs(want).max()


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
