"""Methods of texts: what their configs promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from method_run import embeddings, losses, method, small, weighed

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.branches import unit_length
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.losses import softmax_contrastive
from contrastive_jax.training.step import encode_branches, model_of, total_loss

KEY = jax.random.key(1)


@pytest.fixture(autouse=True, scope="module")
def _data(data_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))
        yield


@pytest.fixture(scope="module")
def quiet(_data):
    """SimCSE without dropout, its first state, a made-up batch."""
    run = method("simcse_unsupervised", "small,ablation=no_dropout")
    return run, *begun(run)


def begun(run):
    """The first state and a made-up batch."""
    with jax.set_mesh(run.mesh):
        return run.initial_state(), jax.device_put(made_up_batch(run), by_example(run.mesh))


def loss(run, state, batch):
    """The loss of a step, and what else it finds."""
    with jax.set_mesh(run.mesh):
        return jax.jit(lambda: total_loss(run.graph, run.losses, model_of(state), batch, KEY, None))()


def loss_and_gradient(run, state, batch, microbatch=None):
    def objective(params):
        return total_loss(run.graph, run.losses, model_of(state, params), batch, KEY, microbatch)

    with jax.set_mesh(run.mesh):
        (value, found), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(state.params)
    return value, gradient, found


def embeddings_of(run, model, batch, key, train=True):
    """{branch: embedding} of a step."""
    encoded = encode_branches(run.graph, model, batch["views"], key, None)
    key = key if train else None
    return {n: run.graph.finish(model, n, z, train=train, key=key) for n, z in encoded.items()}


def embedded(run, state, batch, train=True):
    with jax.set_mesh(run.mesh):
        return jax.jit(lambda: embeddings_of(run, model_of(state), batch, KEY, train))()


def graded(function, *arguments):
    return jax.jit(jax.value_and_grad(function))(*arguments)


def same(tree, other, rtol=1e-4):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def test_without_dropout_both_views_of_simcse_are_the_same_numbers(quiet):
    z = embedded(*quiet)
    np.testing.assert_array_equal(z["a"], z["b"])
    _, state, batch = quiet
    z = embedded(method("simcse_unsupervised", "small"), state, batch)
    assert np.abs(z["a"] - z["b"]).max() > 1e-3


def test_without_dropout_the_loss_of_simcse_has_no_noise(quiet):
    """It is the same bit for bit whatever the key of the step."""
    without, state, batch = quiet
    for run, noisy in ((without, False), (method("simcse_unsupervised", "small"), True)):

        def of_key(key, run=run):
            return total_loss(run.graph, run.losses, model_of(state), batch, key, None)[0]

        with jax.set_mesh(run.mesh):
            one, other = map(jax.jit(of_key), jax.random.split(KEY))
        assert (one != other) == noisy


def test_simcse_of_one_sentence_alone_is_the_logarithm_of_the_batch(quiet):
    run, state, batch = quiet
    views = {name: jnp.broadcast_to(view[:1], view.shape) for name, view in batch["views"].items()}
    value, gradient, _ = loss_and_gradient(run, state, {**batch, "views": views})
    assert value == pytest.approx(np.log(run.config.batch_size), rel=1e-5)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) < 1e-4


def test_the_head_of_simcse_is_for_training_alone(quiet):
    run, state, batch = quiet
    trained = embedded(*quiet)["a"]
    used = embedded(*quiet, train=False)["a"]
    bare = np.asarray(jax.jit(lambda: _encoded(run, state, batch))())
    np.testing.assert_allclose(used, bare / np.linalg.norm(bare, axis=1, keepdims=True), atol=1e-6)
    assert np.abs(trained - used).max() > 1e-3


def _encoded(run, state, batch):
    return run.graph.encode(model_of(state), "a", batch["views"]["text"], train=False, key=None)


@pytest.mark.slow
def test_esimcse_without_repetition_and_before_there_is_a_queue_is_simcse():
    run = method("esimcse", "small", data__views__repeated__repetition=0.0)
    simcse = method("simcse_unsupervised", "small")
    state, batch = begun(run)
    batch["views"]["repeated"] = batch["views"]["text"]  # as the view then gives it
    value, gradient, found = loss_and_gradient(run, state, batch)
    alone = state._replace(teachers={}, memory={})
    expected, wanted, _ = loss_and_gradient(simcse, alone, batch)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    same(gradient, wanted)
    written = found.memory["earlier"]["filled"]
    assert written.sum() == run.config.batch_size < len(written)


def test_the_queue_of_esimcse_is_of_texts_as_they_are_without_dropout():
    """Its branch reads the text that is not repeated; at first it is the encoder itself, and the MLP."""
    run = method("esimcse", "small")
    state, batch = begun(run)
    with jax.set_mesh(run.mesh):
        step = jax.jit(lambda key: embeddings_of(run, model_of(state), batch, key))
        z, other = map(step, jax.random.split(KEY))
    np.testing.assert_array_equal(z["slow"], other["slow"])
    assert np.abs(z["a"] - other["a"]).max() > 1e-3

    def after_the_mlp():
        model = model_of(state)
        encoded = run.graph.encode(model, "a", batch["views"]["text"], train=False, key=None)
        return run.graph.finish(model, "a.mlp", encoded, train=False, key=None)

    with jax.set_mesh(run.mesh):
        np.testing.assert_allclose(z["slow"], jax.jit(after_the_mlp)(), atol=1e-6)
    assert run.graph.branches["slow"].view == "text"
    assert np.any(batch["views"]["text"] != batch["views"]["repeated"])


def test_contriever_is_the_closed_form_of_its_queue():
    run = method("contriever", "small")
    state, batch = begun(run)
    value, _ = loss(run, state, batch)
    z, scale = embedded(run, state, batch), run.losses["contriever"].scale
    memory = run.graph.read(model_of(state))
    queue = memory["earlier"].embeddings

    def closed(z):
        q, k = z["query"], jax.lax.stop_gradient(z["key"])
        own, others = scale * (q * k).sum(1), scale * q @ queue.T
        return jnp.mean(jnp.logaddexp(own, jax.nn.logsumexp(others, axis=1)) - own)

    assert value == pytest.approx(float(closed(z)), rel=1e-4)
    assert np.abs(np.linalg.norm(z["query"], axis=1) - 1).max() > 0.1  # nothing is normalised
    far = {name: 3 * x for name, x in embeddings(run).items()}  # which are not found yet
    wanted = graded(closed, far)
    same(graded(lambda z: weighed(run, z | memory)[0], far), wanted)
    assert wanted[0] > 1
    assert np.abs(wanted[1]["query"]).max() > 1e-2


def test_passages_of_one_task_and_one_kind_of_page_make_a_batch():
    run = method("passage_pairs", "small")
    parts = np.asarray(run.source.column("source"))
    seen = [set(parts[run.sampler(step)[:, 0]]) for step in range(12)]
    assert all(len(each) == 1 for each in seen)
    assert set.union(*seen) == set(range(6))


def test_equal_titles_are_no_negatives_of_each_other():
    run, plain = method("vacancysbert", "small"), method("vacancysbert", "small,ablation=no_mask")
    rng = np.random.default_rng(0)
    title, field = (unit_length(jnp.asarray(rng.normal(size=(6, 8)), jnp.float32)) for _ in range(2))
    names = jnp.array([0, 1, 1, 2, 3, 4])

    def value(run, field):
        return run.losses["match"]({}, {"title": title, "field": field}, {"name": names}).value

    distinct = value(run, field) - value(plain, field)
    assert distinct < 0
    others = softmax_contrastive(title, field, scale=20.0, ignore=names).value
    np.testing.assert_allclose(value(run, field), others, rtol=1e-6)
    # A row's loss does not hear of the other field of its title: only their own rows and columns do.
    alone = jax.grad(
        lambda f: run.losses["match"]({}, {"title": title[1:3], "field": f}, {"name": names[1:3]}).value
    )
    np.testing.assert_allclose(alone(field[1:3]), 0, atol=1e-6)


@pytest.mark.slow
def test_a_batch_of_star_holds_as_many_functions_of_each_package():
    run = method("star", "small")
    packages = np.array(run.source.column("package"))[run.sampler(0)[:, 0]]
    members = run.config.data.sampler.members
    assert (packages.reshape(-1, members) == packages[::members, None]).all()
    assert len(set(packages)) == run.config.batch_size // members


@pytest.mark.slow
def test_without_queues_and_masks_cocosoda_is_clip_six_times():
    run = method("cocosoda", "small,ablation=masking")
    state, batch = begun(run)
    for name in ("code", "docstring"):
        batch["views"][f"masked_{name}"] = batch["views"][name]
    value, gradient, found = loss_and_gradient(run, state, batch)

    def closed(params):
        """The slow encoder is the encoder itself, without a gradient."""
        z = embeddings_of(run, model_of(state, params), batch, KEY)
        code, text = z["code"], z["docstring"]
        still_code, still_text = jax.lax.stop_gradient((code, text))
        pairs = [(code, text), (text, code), (code, still_text), (text, still_code)]
        pairs += [(code, still_code), (text, still_text)]
        each = [softmax_contrastive(*pair, scale=20.0, symmetric=False).value for pair in pairs]
        return sum(each) / 6, z

    with jax.set_mesh(run.mesh):
        (expected, z), wanted = jax.jit(jax.value_and_grad(closed, has_aux=True))(state.params)
    same((value, gradient), (expected, wanted))
    clip = softmax_contrastive(z["code"], z["docstring"], scale=20.0).value
    inside = [softmax_contrastive(z[n], z[n], scale=20.0).value for n in ("code", "docstring")]
    np.testing.assert_allclose(value, (4 * clip + sum(inside)) / 6, rtol=1e-5)
    both = (found.metrics[f"{a}_to_{b}/loss"] for a, b in (("code", "docstring"), ("docstring", "code")))
    np.testing.assert_allclose(sum(both) / 2, clip, rtol=1e-5)


def test_matryoshka_is_the_sum_of_the_loss_at_each_width():
    run, one = method("matryoshka", "small"), method("matryoshka", "small,ablation=one_width")
    state, batch = begun(run)
    value, found = loss(run, state, batch)
    z, dims = embedded(run, state, batch), run.losses["nested"].dims
    whole, _ = weighed(one, z)

    def closed(z):
        cut = [[unit_length(z[n][:, :dim]) for n in ("anchor", "positive", "negative")] for dim in dims]
        each = [softmax_contrastive(a, b, negatives=c, scale=20.0, symmetric=False) for a, b, c in cut]
        return sum(loss.value for loss in each)

    expected, wanted = graded(closed, z)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    same(graded(lambda z: weighed(run, z)[0], z), (expected, wanted))
    assert all(np.abs(wanted[n]).max() > 1e-3 for n in z)
    np.testing.assert_allclose(found.metrics[f"nested/loss_{max(dims)}"], whole, rtol=1e-5)
    np.testing.assert_allclose(value, sum(found.metrics[f"nested/loss_{dim}"] for dim in dims), rtol=1e-5)


def test_weak_pairs_come_from_one_source_a_batch():
    run, mixed = method("weak_then_supervised"), method("weak_then_supervised", "ablation=mixed")
    parts = np.asarray(run.source.column("source"))
    seen = [set(parts[run.sampler(step)[:, 0]]) for step in range(20)]
    assert all(len(each) == 1 for each in seen)
    assert set.union(*seen) == set(parts)
    assert len(set(parts[mixed.sampler(0)[:, 0]])) == len(set(parts))


def test_star_has_the_same_gradient_whatever_is_encoded_at_once():
    """Of four packages with four functions each."""
    run = method("star", "small")
    state, batch = begun(run)
    assert list(batch["fields"]) == ["package"]
    batch["fields"]["package"] = jnp.arange(run.config.batch_size) // 4
    value, gradient, _ = loss_and_gradient(run, state, batch)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient["encoders"])) > 1e-2
    for microbatch in (1, 2):
        again, other, _ = loss_and_gradient(run, state, batch, microbatch)
        np.testing.assert_allclose(again, value, rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), other, gradient)


@pytest.mark.slow
def test_star_learns_the_same_from_a_batch_that_is_read_twice(tmp_path):
    """Cached gradients: the embeddings' first, then, of the same examples again, the encoder's."""
    whole = losses(small("star"), tmp_path / "whole")
    twice = losses(small("star", mode="out_of_core", microbatch=1), tmp_path / "twice")
    np.testing.assert_allclose(twice, whole, rtol=1e-4)
