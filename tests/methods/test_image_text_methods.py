"""Methods of pictures and texts: what their configs promise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from method_run import embeddings, losses, method, weighed

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.data import curation
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.views import Text
from contrastive_jax.data.views.orders import swapped
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.evaluation.word_order import Perturbation
from contrastive_jax.losses import softmax_contrastive, symile
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.structure import named_leaves


@pytest.fixture(autouse=True)
def _data(data_folder, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_DATA", str(data_folder))


def test_siglip_begins_as_the_paper_says():
    """Scale 10 and bias -10: the golden values of eight orthogonal and of eight matching pairs."""
    run = method("siglip", "paper")
    zero, one = jnp.zeros((8, 8)), jnp.eye(8)
    for text, want in ((zero, 10.000363), (one, 0.693465)):
        value, _ = weighed(run, {"image": one, "text": text})
        np.testing.assert_allclose(value, want, rtol=1e-6)


def test_clip_rocket_without_changed_views_is_clip():
    """And with them a third of its loss still is, beside the mean of the four changed pairs."""
    rocket, clip = method("clip_rocket", "small"), method("clip_rocket", "small,ablation=clip")
    z = embeddings(rocket)
    graded = jax.jit(jax.value_and_grad(lambda z: weighed(rocket, z), has_aux=True))
    (value, each), gradient = graded(z)
    alone, of_clip = jax.jit(jax.value_and_grad(lambda z: weighed(clip, z)[0]))(z)
    want = softmax_contrastive(z["image"], z["text"], scale=1 / 0.07).value
    np.testing.assert_allclose([alone, each["clip"]], want, rtol=1e-6)
    local = [value for name, value in each.items() if name != "clip"]
    assert len(local) == 4
    np.testing.assert_allclose(value, alone / 3 + 2 / 3 * np.mean(local), rtol=1e-6)
    for branch in ("image", "text"):
        np.testing.assert_allclose(gradient[branch], of_clip[branch] / 3, rtol=1e-5, atol=1e-8)
    heads = {branch: run.heads for branch, run in rocket.graph.branches.items()}
    assert not set(heads["image"]) & set(heads["local_image_a"])


def test_siamlip_has_no_gradient_in_its_targets():
    run = method("clip_rocket", "small,ablation=siam")
    add_on = [run.losses["image"], run.losses["text"]]
    z = embeddings(run)
    gradient = jax.grad(lambda z: sum(loss({}, z, {}).value for loss in add_on))(z)
    for side in ("image", "text"):
        assert np.abs(gradient[f"second_{side}"]).max() > 0
        assert not gradient[f"second_{side}.projected_{side}"].any()


def test_one_to_k_of_equal_texts_is_clip_of_each_and_log_k():
    """Each text then stands K times in the sum of a picture; in that of a text nothing changes."""
    run, each = method("one_to_k", "small"), method("one_to_k", "small,ablation=each")
    z = embeddings(run)

    def alike(z):
        return {name: z["image" if name == "image" else "en"] for name in run.graph.branches}

    value, gradient = jax.jit(jax.value_and_grad(lambda z: weighed(run, alike(z))[0]))(z)
    other, of_other = jax.jit(jax.value_and_grad(lambda z: weighed(each, alike(z))[0]))(z)
    np.testing.assert_allclose(value, other + np.log(4) / 2, rtol=1e-6)
    for name in ("image", "en"):
        np.testing.assert_allclose(gradient[name], of_other[name], rtol=1e-4, atol=1e-7)


def test_a_quarter_of_aligns_names_are_wrong():
    noisy, clean = method("align").source, method("align", "wrong=0").source
    wrong = np.array(noisy.column("text")) != np.array(clean.column("text"))
    assert wrong.mean() == pytest.approx(0.25, abs=0.01)
    assert sorted(noisy.column("text")) == sorted(clean.column("text"))
    assert len(method("align", "share=0.25,wrong=0").source) / len(clean) == pytest.approx(0.25, abs=0.01)


def test_lit_leaves_the_picture_tower_bit_for_bit(tmp_path):
    run = method("lit", "small", steps=4, logging__every=1, checkpoint__every=4)
    run = Experiment(dataclasses.replace(run.config, evaluation=None), run.mesh.devices.flatten())
    with jax.set_mesh(run.mesh):
        state = run.initial_state()
        batch = jax.device_put(made_up_batch(run), by_example(run.mesh))
    locked = [name for name in named_leaves(state.params) if name.startswith("encoders/image/")]
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(state.opt_state)}
    assert locked
    assert np.shape(named_leaves(state.params)["encoders/image/patches/kernel"]) not in shapes  # no moments
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


@pytest.mark.slow
def test_lit_begins_with_the_pictures_that_another_run_learned(tmp_path):
    first = method("lit", "small,stage=pictures", steps=4, logging__every=1, checkpoint__every=4)
    losses(first, tmp_path / "pictures")
    run = method("lit", f"small,image={tmp_path / 'pictures'}")
    with jax.set_mesh(run.mesh):
        here, new = run.initial_state(), first.initial_state()
    taken, fresh = (named_leaves(state.params)["encoders/image/patches/kernel"] for state in (here, new))
    assert not np.array_equal(taken, fresh)


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


def test_one_language_is_drawn_at_training_and_the_first_is_read_else():
    class Letters:
        def encode(self, text, length, keep=True):
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


def test_the_scale_of_symile_is_not_held_at_100():
    """Products of three unit vectors are far smaller than their cosines."""
    loss = method("symile", "paper").losses["symile"]
    assert loss.scale_max is None
    over = {"log_scale": jnp.log(jnp.float32(150.0))}
    assert loss.project(over) == over


def test_a_missing_modality_is_blank_at_training_alone():
    run = method("symile", "missing=0.3")
    rng, record = np.random.default_rng(0), run.source[0]
    view = run.config.data.views["image"]
    blank = [not view(record, rng, True).any() for _ in range(400)]
    assert np.mean(blank) == pytest.approx(0.3, abs=0.08)
    assert view(record, rng, False).any()


def test_what_is_always_missing_need_not_be_in_the_source():
    run = method("symile", "small", data__views__other__missing=1.0, data__views__other__field="nothing")
    run.check_data()
    view = run.config.data.views["other"]
    assert not view(run.source[0], np.random.default_rng(0), False).any()


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
