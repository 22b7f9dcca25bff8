"""Losses as a config names them: what each reads and learns, and that it is the function of that name."""

import jax
import jax.numpy as jnp
import pytest
from dense import unit
from ml_collections import ConfigDict

import contrastive_jax as cj
from contrastive_jax.configuration import Kind, build, complete
from contrastive_jax.errors import InputError
from contrastive_jax.losses import KINDS

Z = dict(zip("abcd", jnp.asarray(unit(0, 4, 6, 4), jnp.float32)))
LABELS = {"label": jnp.arange(6) // 2, "picture": jnp.arange(6) % 4}
A, B, C, D = Z.values()
QUEUE = cj.Memory(jnp.asarray(unit(1, 8, 4), jnp.float32), jnp.arange(8) < 7, jnp.arange(8) % 3)
GIVEN = {**Z, "queue": QUEUE, "crops": jnp.asarray(unit(2, 6, 3, 4), jnp.float32)}
MIXING = {"c.partner": jnp.flip(jnp.arange(6)), "c.share": jnp.float32(0.3)}
CASES = {
    "softmax": (
        dict(
            rows="a", columns="b", positives="label", ignore=("picture", "label"), margin=0.1, decoupled=True
        ),
        lambda scale: cj.softmax_contrastive(
            A,
            B,
            scale=scale,
            positives=LABELS["label"],
            ignore=(LABELS["picture"], LABELS["label"]),
            margin=0.1,
            decoupled=True,
        ),
    ),
    "softmax, guided": (
        dict(rows="a", columns="b", guide=("c", "d"), guide_margin=0.1, negatives="c", symmetric=False),
        lambda scale: cj.softmax_contrastive(
            A, B, scale=scale, guide=(C, D), guide_margin=0.1, negatives=C, symmetric=False
        ),
    ),
    "softmax, remembered": (
        dict(
            rows="a",
            columns="b",
            memory="queue",
            memory_labels="label",
            negatives=("c", "crops"),
            own_negatives=0.5,
        ),
        lambda scale: cj.softmax_contrastive(
            A,
            B,
            scale=scale,
            memory=QUEUE,
            memory_labels=LABELS["label"],
            negatives=(C[:, None], GIVEN["crops"]),
            own_negatives=0.5,
        ),
    ),
    "sigmoid": (
        dict(rows="a", columns="b", positives="label", bias=-3.0),
        lambda scale: cj.sigmoid_contrastive(A, B, scale=scale, bias=-3.0, positives=LABELS["label"]),
    ),
    "nt_xent": (dict(views=("a", "b")), lambda scale: cj.nt_xent(A, B, scale=scale)),
    "supervised": (
        dict(views=("a", "b"), labels="label"),
        lambda scale: cj.supervised_contrastive(jnp.stack([A, B], 1), LABELS["label"], scale=scale),
    ),
    "one_to_k": (
        dict(image="a", views=("b", "c"), divide_texts=True),
        lambda scale: cj.one_to_k(A, jnp.stack([B, C], 1), scale=scale, divide_texts=True),
    ),
    "attraction_repulsion": (
        dict(views=("a", "b", "c"), t_plus=0.5, weights_gradient=False),
        lambda _: cj.attraction_repulsion(jnp.stack([A, B, C], 1), t_plus=0.5, weights_gradient=False),
    ),
    "gte": (
        dict(queries="a", documents="b", negatives="c", guide=("c", "d"), documents_to_queries=False),
        lambda scale: cj.gte_contrastive(
            A, B, scale=scale, negatives=C, guide=(C, D), documents_to_queries=False
        ),
    ),
    "supervised, grouped": (
        dict(views=("crops",), labels="label"),
        lambda scale: cj.supervised_contrastive(GIVEN["crops"], LABELS["label"], scale=scale),
    ),
    "one_to_k, grouped": (
        dict(image="a", views=("crops", "b")),
        lambda scale: cj.one_to_k(A, jnp.concatenate([GIVEN["crops"], B[:, None]], 1), scale=scale),
    ),
    "attraction_repulsion, grouped": (
        dict(views=("crops", "a")),
        lambda _: cj.attraction_repulsion(jnp.concatenate([GIVEN["crops"], A[:, None]], 1)),
    ),
    "momentum_contrast": (
        dict(
            queries="a",
            keys="b",
            memory="queue",
            memory_labels="label",
            label_smoothing=0.1,
            learn_scale=True,
        ),
        lambda scale: cj.momentum_contrast(
            A, B, QUEUE, scale=scale, memory_labels=LABELS["label"], label_smoothing=0.1
        ),
    ),
    "hard_contrastive": (
        dict(rows="a", columns="b", fraction=0.5, positives="label", symmetric=False),
        lambda scale: cj.hard_contrastive(
            A, B, scale=scale, fraction=0.5, positives=LABELS["label"], symmetric=False
        ),
    ),
    "simple_contrastive": (
        dict(rows="a", columns="b", repulsion=0.5, ignore="picture"),
        lambda _: cj.simple_contrastive(A, B, repulsion=0.5, ignore=LABELS["picture"]),
    ),
    "alignment_uniformity": (
        dict(a="a", b="b", alpha=1.0, t=3.0, alignment=0.5, uniformity=0.7),
        lambda _: cj.alignment_uniformity(A, B, alpha=1.0, t=3.0, alignment=0.5, uniformity=0.7),
    ),
    "cosine_regression": (
        dict(predictions="a", targets="b"),
        lambda _: cj.cosine_regression(A, B),
    ),
    "cross_correlation": (
        dict(a="a", b="b", off_diagonal=0.1),
        lambda _: cj.cross_correlation(A, B, off_diagonal=0.1),
    ),
    "mixed_barlow": (
        dict(a="a", b="b", mixed="c", off_diagonal=0.1, mixed_weight=2.0),
        lambda _: cj.mixed_barlow(A, B, C, *MIXING.values(), off_diagonal=0.1, mixed_weight=2.0),
    ),
    "matryoshka": (
        dict(dims=(4,), loss=dict(kind="sigmoid", rows="a", columns="b")),
        lambda _: cj.sigmoid_contrastive(A, B, scale=10.0, bias=-10.0),
    ),
    "symile": (
        dict(views=("a", "b", "c"), negatives="all"),
        lambda scale: cj.symile([A, B, C], scale=scale, negatives="all"),
    ),
}


LEARNED = {"sigmoid": {"log_scale", "bias"}, "matryoshka": {"log_scale", "bias"}}
NOTHING = {"attraction_repulsion", "simple_contrastive", "alignment_uniformity", "cosine_regression"} | {
    "cross_correlation",
    "mixed_barlow",
}


@pytest.mark.parametrize("case", CASES)
def test_a_kind_is_its_function(case):
    settings, function = CASES[case]
    kind = case.partition(",")[0]
    config = ConfigDict({"kind": kind, **settings})
    complete(config, Kind(KINDS))
    loss = build(config, Kind(KINDS))
    assert set(loss.fields) <= set(LABELS)
    assert set(loss.memories) <= {"queue"}
    read = {name: GIVEN[name] for name in (*loss.branches, *loss.memories)}
    fields = {name: LABELS[name] for name in loss.fields} | (MIXING if kind == "mixed_barlow" else {})
    params = loss.init()
    got, gradient = jax.jit(jax.value_and_grad(lambda p: loss(p, read, fields).value))(params)
    want = jax.jit(lambda: function(getattr(loss, "scale", None)).value)()
    assert float(got) == pytest.approx(float(want), rel=1e-5)
    assert set(gradient) == (set() if kind in NOTHING else LEARNED.get(kind, {"log_scale"}))
    assert all(g != 0 for g in gradient.values())
    assert loss.project(params) == params


def test_every_kind_is_here():
    assert {case.partition(",")[0] for case in CASES} == set(KINDS)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - NOTHING - {"matryoshka"}))
def test_a_scale_that_is_not_learned(kind):
    loss = KINDS[kind](**{**CASES[kind][0], "learn_scale": False})
    assert "log_scale" not in loss.init()
    assert loss.scale_of(loss.init()) == loss.scale


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"matryoshka"}))
def test_a_weight_is_not_negative(kind):
    assert KINDS[kind](**CASES[kind][0], weight=0.0).weight == 0
    with pytest.raises(InputError, match=r"weight=-1\.0: give 0 or more"):
        KINDS[kind](**CASES[kind][0], weight=-1.0)


def test_matrices_count_what_memories_and_groups_hold():
    settings = dict(rows="a", columns="b", negatives=("c", "crops"), memory="queue", guide=("c", "d"))
    found = KINDS["softmax"](**settings).matrices(6, {"crops": 18, "queue": 8})
    assert [(m.rows, m.columns, m.sides) for m in found] == [
        (6, 6, 2),
        (6, 6, 2),
        (6, 18, 2),
        (6, 8, 1),
        (6, 6, 0),
    ]
    (views,) = KINDS["supervised"](views=("a", "crops"), labels="label").matrices(6, {"crops": 18})
    assert (views.rows, views.columns) == (24, 24)
    (texts,) = KINDS["one_to_k"](image="a", views=("crops",)).matrices(6, {"crops": 18})
    assert (texts.rows, texts.columns, texts.branch) == (6, 18, "a")
    (queue,) = KINDS["momentum_contrast"](queries="a", keys="b", memory="queue").matrices(6, {"queue": 8})
    assert (queue.rows, queue.columns, queue.sides) == (6, 8, 1)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("softmax", {"guide": ("c",)}),
        ("softmax", {"margin": -1.0}),
        ("softmax", {"angular_margin": 2.0}),
        ("softmax", {"own_negatives": 1.0}),
        ("softmax", {"memory_labels": "label"}),
        ("gte", {"guide": ("c",)}),
        ("momentum_contrast", {"label_smoothing": 1.0}),
        ("hard_contrastive", {"fraction": 0.0}),
        ("simple_contrastive", {"fraction": 1.5}),
        ("simple_contrastive", {"repulsion": 0.0}),
        ("alignment_uniformity", {"alpha": 0.0}),
        ("alignment_uniformity", {"t": -1.0}),
        ("cross_correlation", {"off_diagonal": -0.1}),
        ("mixed_barlow", {"mixed_weight": -0.1}),
        ("nt_xent", {"views": ("a", "b", "c")}),
        ("supervised", {"views": ()}),
        ("one_to_k", {"scale": 0.0}),
        ("attraction_repulsion", {"t_minus": 0.0}),
        ("attraction_repulsion", {"views": ()}),
        ("symile", {"views": ("a",)}),
        ("symile", {"negatives": "some"}),
        ("symile", {"views": ("a", "b", "c", "d")}),
    ],
)
def test_refused_settings(kind, wrong):
    with pytest.raises(
        InputError, match=next(iter(wrong)) if wrong.get("views", ()) != tuple("abcd") else "all"
    ):
        KINDS[kind](**{**CASES[kind][0], **wrong})


def test_one_view_of_an_example_is_too_few():
    """How many a branch gives is known where its embeddings are."""
    loss = KINDS["attraction_repulsion"](views=("a",))
    assert jnp.isfinite(loss({}, {"a": GIVEN["crops"]}, {}).value)
    with pytest.raises(InputError, match="give 1 of an example: give 2 or more"):
        loss({}, Z, {})
