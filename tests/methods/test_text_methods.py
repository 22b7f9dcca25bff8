"""Methods of texts: what their configs promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from method_run import losses, method, small

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.branches import unit_length
from contrastive_jax.data.streams import Streams
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


def loss_and_gradient(run, state, batch):
    def objective(params):
        return total_loss(run.graph, run.losses, model_of(state, params), batch, KEY, None)

    with jax.set_mesh(run.mesh):
        (value, found), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(state.params)
    return value, gradient, found


def embedded(run, state, batch, train=True):
    """{branch: embedding} of a step."""

    def run_branches():
        model = model_of(state)
        encoded = encode_branches(run.graph, model, batch["views"], KEY, None)
        key = KEY if train else None
        return {n: run.graph.finish(model, n, z, train=train, key=key) for n, z in encoded.items()}

    with jax.set_mesh(run.mesh):
        return jax.jit(run_branches)()


def same(tree, other, rtol=1e-4):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def test_without_dropout_both_views_of_simcse_are_the_same_numbers(quiet):
    z = embedded(*quiet)
    np.testing.assert_array_equal(z["a"], z["b"])
    _, state, batch = quiet
    z = embedded(method("simcse_unsupervised", "small"), state, batch)
    assert np.abs(z["a"] - z["b"]).max() > 1e-3


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


def test_contriever_is_the_closed_form_of_its_queue():
    run = method("contriever", "small")
    state, batch = begun(run)
    value, _ = loss(run, state, batch)
    z, scale = embedded(run, state, batch), run.losses["contriever"].scale
    q, k, queue = (
        np.asarray(x, float) for x in (z["query"], z["key"], state.memory["earlier"]["embeddings"])
    )
    assert np.abs(np.linalg.norm(q, axis=1) - 1).max() > 0.1  # nothing is normalised
    own, others = scale * (q * k).sum(1), scale * q @ queue.T
    expected = np.mean(np.logaddexp(own, np.logaddexp.reduce(others, axis=1)) - own)
    assert value == pytest.approx(expected, rel=1e-4)


def test_an_answer_of_the_inverse_cloze_task_lacks_its_question():
    run = method("passage_pairs", "ablation=ict")
    streams, found = Streams(0, "together task"), 0
    for index in range(0, len(run.source), 40):
        record = run.source[index]
        query, document = (run.config.data.views[name] for name in ("query", "document"))
        asked = query._string(record["asked"], "asked", streams.at(0, index), True)
        answer = document._string(record["answer"], "answer", streams.at(0, index), True)
        assert asked in record["sentences"]
        assert asked not in answer
        found += 1
    assert found > 50


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
    value, found = loss(run, state, batch)
    z = embedded(run, state, batch)
    clip = softmax_contrastive(z["code"], z["docstring"], scale=20.0).value
    inside = [softmax_contrastive(z[n], z[n], scale=20.0).value for n in ("code", "docstring")]
    np.testing.assert_allclose(value, (4 * clip + sum(inside)) / 6, rtol=1e-5)
    both = (found.metrics[f"{a}_to_{b}/loss"] for a, b in (("code", "docstring"), ("docstring", "code")))
    np.testing.assert_allclose(sum(both) / 2, clip, rtol=1e-5)


def test_matryoshka_is_the_sum_of_the_loss_at_each_width():
    run, one = method("matryoshka", "small"), method("matryoshka", "small,ablation=one_width")
    state, batch = begun(run)
    value, found = loss(run, state, batch)
    whole, _ = loss(one, state._replace(params=state.params | {"losses": {"simcse": {}}}), batch)
    dims = run.losses["nested"].dims
    np.testing.assert_allclose(found.metrics[f"nested/loss_{max(dims)}"], whole, rtol=1e-5)
    np.testing.assert_allclose(value, sum(found.metrics[f"nested/loss_{dim}"] for dim in dims), rtol=1e-5)


def test_weak_pairs_come_from_one_source_a_batch():
    run, mixed = method("weak_then_supervised"), method("weak_then_supervised", "ablation=mixed")
    parts = np.asarray(run.source.column("source"))
    seen = [set(parts[run.sampler(step)[:, 0]]) for step in range(20)]
    assert all(len(each) == 1 for each in seen)
    assert set.union(*seen) == set(parts)
    assert len(set(parts[mixed.sampler(0)[:, 0]])) == len(set(parts))


@pytest.mark.slow
def test_star_learns_the_same_from_a_batch_that_is_read_twice(tmp_path):
    """Cached gradients: the embeddings' first, then, of the same examples again, the encoder's."""
    whole = losses(small("star"), tmp_path / "whole")
    twice = losses(small("star", mode="out_of_core", microbatch=1), tmp_path / "twice")
    np.testing.assert_allclose(twice, whole, rtol=1e-4)
