"""Methods of pictures and texts: what their configs promise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from method_run import losses, method

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.data import curation
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Text
from contrastive_jax.data.views.orders import swapped
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.evaluation.word_order import Perturbation
from contrastive_jax.losses import softmax_contrastive, symile
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.step import model_of, total_loss
from contrastive_jax.training.structure import named_leaves


@pytest.fixture(autouse=True)
def _data(data_folder, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))


def begun(run):
    with jax.set_mesh(run.mesh):
        return run.initial_state(), jax.device_put(made_up_batch(run), by_example(run.mesh))


def loss_and_gradient(run, state, batch):
    """((value, metrics), gradient) of parameters of which the run may need but a part."""

    def objective(params):
        found = total_loss(run.graph, run.losses, model_of(state, params), batch, jax.random.key(1), None)
        return found[0], found[1].metrics

    with jax.set_mesh(run.mesh):
        return jax.jit(jax.value_and_grad(objective, has_aux=True))(state.params)


def test_a_quarter_of_aligns_names_are_wrong():
    noisy, clean = method("align").source, method("align", "ablation=clean").source
    wrong = np.array(noisy.column("text")) != np.array(clean.column("text"))
    assert wrong.mean() == pytest.approx(0.25, abs=0.01)
    assert sorted(noisy.column("text")) == sorted(clean.column("text"))
    assert len(method("align", "ablation=quarter").source) / len(clean) == pytest.approx(0.25, abs=0.03)


def test_siglip_begins_with_the_paper_s_bias():
    """The softplus of 10 - 10 cos, for the one right text of a picture, and next to nothing for others."""
    run = method("siglip", "small")
    state, batch = begun(run)
    with jax.set_mesh(run.mesh):
        (value, metrics), gradient = loss_and_gradient(run, state, batch)
    assert 0 < value < 20 + 16 * np.log(2)
    assert float(metrics["pairs/bias"]) == -10
    assert float(gradient["losses"]["pairs"]["bias"]) < 0  # most of the loss is of right pairs


def test_lit_leaves_the_picture_tower_bit_for_bit(tmp_path):
    run = method("lit", "small", steps=4, logging__every=1, checkpoint__every=4)
    run = Experiment(dataclasses.replace(run.config, evaluation=None), run.mesh.devices.flatten())
    state, batch = begun(run)
    locked = [name for name in named_leaves(state.params) if name.startswith("encoders/image/")]
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(state.opt_state)}
    assert locked
    assert np.shape(named_leaves(state.params)["encoders/image/patch/kernel"]) not in shapes  # no moments
    with jax.set_mesh(run.mesh):
        step = run.train_step()
        before = {name: np.array(leaf) for name, leaf in named_leaves(state.params).items()}
        cached = run.graph.encode(state.params, "image", batch["views"]["image"], train=False, key=None)
        cached = np.array(cached)
        for _ in range(3):
            state, _ = step(state, batch)
        again = run.graph.encode(state.params, "image", batch["views"]["image"], train=False, key=None)
    after = named_leaves(state.params)
    assert all(np.array_equal(before[name], after[name]) for name in locked)
    assert not np.array_equal(before["heads/text/out/kernel"], after["heads/text/out/kernel"])
    np.testing.assert_array_equal(cached, again)


def test_lit_begins_with_the_pictures_that_another_run_learned(tmp_path):
    first = method("lit", "small,stage=pictures", steps=4, logging__every=1, checkpoint__every=4)
    losses(first, tmp_path / "pictures")
    run = method("lit", f"small,image={tmp_path / 'pictures'}")
    with jax.set_mesh(run.mesh):
        here, new = run.initial_state(), first.initial_state()
    taken, fresh = (named_leaves(state.params)["encoders/image/patch/kernel"] for state in (here, new))
    assert not np.array_equal(taken, fresh)


def test_clip_rocket_without_changed_views_is_clip():
    """And with them a third of its loss still is; each changed pair has a scale of its own."""
    rocket, clip = method("clip_rocket", "small"), method("clip_rocket", "small,ablation=clip")
    state, batch = begun(rocket)
    (value, metrics), _ = loss_and_gradient(rocket, state, batch)
    few = clip.initial_state()
    views = {name: batch["views"][name] for name in ("image", "text")}
    (alone, _), gradient = loss_and_gradient(clip, few, {**batch, "views": views})
    np.testing.assert_allclose(metrics["clip/loss"], alone, rtol=1e-6)
    local = [metrics[name] for name in metrics if name.startswith("local") and name.endswith("/loss")]
    assert len(local) == 4
    np.testing.assert_allclose(value, alone / 3 + 2 / 3 * np.mean(local), rtol=1e-5)
    z = {
        name: clip.graph.finish(
            few.params,
            name,
            clip.graph.encode(few.params, name, views[name], train=False, key=None),
            train=False,
            key=None,
        )
        for name in ("image", "text")
    }
    np.testing.assert_allclose(
        alone, softmax_contrastive(z["image"], z["text"], scale=1 / 0.07).value, rtol=1e-5
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_siamlip_learns_through_its_predictors_alone():
    run = method("clip_rocket", "small,ablation=siam")
    state, batch = begun(run)
    run = Experiment(run.config, run.mesh.devices.flatten())
    (_, metrics), _ = loss_and_gradient(run, state, batch)
    assert 0 <= float(metrics["image/loss"]) <= 4
    assert 0 <= float(metrics["text/loss"]) <= 4
    only = {"image": run.losses["image"]}

    def objective(params):
        found = total_loss(run.graph, only, model_of(state, params), batch, jax.random.key(1), None)
        return found[0]

    with jax.set_mesh(run.mesh):
        gradient = jax.jit(jax.grad(objective))(state.params)
    sizes = {name: float(np.abs(leaf).max()) for name, leaf in named_leaves(gradient).items()}
    assert max(size for name, size in sizes.items() if name.startswith("encoders/image")) > 0
    assert max(size for name, size in sizes.items() if name.startswith("encoders/text")) == 0


def test_negclips_captions_differ_in_the_order_of_two_tones():
    run = method("negclip")
    (kind,) = run.config.data.views["swapped"].swap
    source = open_source(run.config.evaluation.source)
    assert not set(source.column("key")) & set(run.source.column("key"))
    evaluator, rng = run.config.evaluation.evaluators["order"], np.random.default_rng(0)
    change = Perturbation("swap", evaluator.kinds, evaluator.seed)
    orders = [(text, changed) for text in source.column("tts.en") if (changed := change(text))]
    assert len(orders) > 40
    for text, changed in orders:
        assert changed != text
        assert sorted(changed.replace(",", "").split()) == sorted(text.replace(",", "").split())
    for text in run.source.column("tts.en"):  # no caption is left without a negative
        words = text.split()
        other = swapped(words, [frozenset(kind.split())], rng)
        assert sum(a != b for a, b in zip(words, other, strict=True)) in (1, 2)


def test_one_to_k_of_equal_texts_is_clip_of_each_and_log_k():
    """Each text then stands there K times, in the sum of a picture; in that of a text nothing changes."""
    run, each = method("one_to_k", "small"), method("one_to_k", "small,ablation=each")
    state, batch = begun(run)
    views = {name: batch["views"]["image" if name == "image" else "en"] for name in batch["views"]}
    (value, _), gradient = loss_and_gradient(run, state, {**batch, "views": views})
    (other, _), of_other = loss_and_gradient(each, each.initial_state(), {**batch, "views": views})
    np.testing.assert_allclose(value, other + np.log(4) / 2, rtol=1e-5)
    for a, b in zip(*(jax.tree.leaves(g["encoders"]) for g in (gradient, of_other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_one_language_is_drawn_at_training_and_the_first_is_read_else():
    class Letters:
        def encode(self, text, length):
            return np.array([ord(text)] * length, np.int32)

    record, rng = {"a": "x", "b": "y", "c": "z"}, np.random.default_rng(0)
    view = Text(field="a", either=("b", "c"), length=3).bind(Letters())
    drawn = {chr(view(record, rng, True)[0]) for _ in range(60)}
    assert drawn == {"x", "y", "z"}
    assert chr(view(record, rng, False)[0]) == "x"
    all_of_them = dataclasses.replace(view, count=3).bind(Letters())(record, rng, True)
    assert sorted(all_of_them[:, 0]) == sorted(map(ord, "xyz"))
    assert view.fields == ("a", "b", "c")


@pytest.mark.parametrize(("kind", "accuracy"), [("symile", 1.0), ("pairwise", 0.3)])
def test_what_two_say_of_a_third_only_together(kind, accuracy):
    """c = a xor b of three bits, each a row of a table: Symile finds c from a and b, pairs cannot."""
    a, b = (x.ravel() for x in np.meshgrid(np.arange(8), np.arange(8)))
    numbers = jnp.asarray(np.stack([a, b, a ^ b]))
    key, optimizer = jax.random.key(0), optax.adam(0.05)
    start = {"z": jax.random.normal(key, (3, 8, 16)), "log_scale": jnp.float32(2.0)}

    def embedded(params):
        z = params["z"] / jnp.linalg.norm(params["z"], axis=-1, keepdims=True)
        return [table[number] for table, number in zip(z, numbers)]

    def loss(params):
        z, scale = embedded(params), jnp.exp(params["log_scale"])
        if kind == "symile":
            return symile(z, scale=scale, negatives="all").value
        return sum(softmax_contrastive(z[m], z[n], scale=scale).value for m, n in ((0, 1), (0, 2), (1, 2)))

    @jax.jit
    def trained(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=200)[0][0]

    params = trained(start)
    x, y, _ = embedded(params)
    answers = params["z"][2] / jnp.linalg.norm(params["z"][2], axis=-1, keepdims=True)
    query = x * y if kind == "symile" else x + y
    right = float(np.mean(np.argmax(query @ answers.T, axis=1) == (a ^ b)))
    assert right >= accuracy if kind == "symile" else right <= accuracy


def test_a_missing_modality_is_blank_at_training_alone():
    run = method("symile", "missing=0.3")
    rng, record = np.random.default_rng(0), run.source[0]
    view = run.config.data.views["image"]
    blank = [not view(record, rng, True).any() for _ in range(400)]
    assert np.mean(blank) == pytest.approx(0.3, abs=0.08)
    assert view(record, rng, False).any()


def test_metaclip_keeps_the_tail_and_as_many_by_lot():
    pool, some = (method("metaclip", f"ablation={name}").source for name in ("pool", "random"))
    kept = method("metaclip").source
    assert len(kept) == pytest.approx(len(some), rel=0.02)
    texts = pool.column("tts.en")
    words = sorted({word for text in texts for word in curation.words_of(text)})

    def counts(source):
        return curation.counts(curation.match(source.column("tts.en"), words), len(words))

    rare = counts(pool) <= 2
    np.testing.assert_array_equal(counts(kept)[rare], counts(pool)[rare])
    assert curation.entropy(counts(kept)) > curation.entropy(counts(pool)) > 0
    assert curation.entropy(counts(kept)) > curation.entropy(counts(some)) + 1


def test_gamephysics_asks_with_sentences_for_bags_of_pictures():
    evaluators = method("gamephysics").config.evaluation.evaluators
    assert {name: (e.hits, e.bag, e.candidates) for name, e in evaluators.items()} == {
        "one": (1, 20, 10),
        "half": (10, 20, 10),
    }
