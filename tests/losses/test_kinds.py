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
    "symile": (
        dict(views=("a", "b", "c"), negatives="all"),
        lambda scale: cj.symile([A, B, C], scale=scale, negatives="all"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_kind_is_its_function(case):
    settings, function = CASES[case]
    config = ConfigDict({"kind": case.partition(",")[0], **settings})
    complete(config, Kind(KINDS))
    loss = build(config, Kind(KINDS))
    assert set(loss.branches) <= set(Z)
    assert set(loss.fields) <= set(LABELS)
    read = {name: Z[name] for name in loss.branches}, {name: LABELS[name] for name in loss.fields}
    params = loss.init()
    got, gradient = jax.jit(jax.value_and_grad(lambda p: loss(p, *read).value))(params)
    want = jax.jit(lambda: function(getattr(loss, "scale", None)).value)()
    assert float(got) == pytest.approx(float(want), rel=1e-5)
    assert set(gradient) == ({"log_scale"} if hasattr(loss, "scale") else set()) | (
        {"bias"} if case == "sigmoid" else set()
    )
    assert all(g != 0 for g in gradient.values())
    assert loss.project(params) == params


def test_every_kind_is_here():
    assert {case.partition(",")[0] for case in CASES} == set(KINDS)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"attraction_repulsion"}))
def test_a_scale_that_is_not_learned(kind):
    loss = KINDS[kind](**CASES[kind][0], learn_scale=False)
    assert "log_scale" not in loss.init()
    assert loss.scale_of(loss.init()) == loss.scale


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("softmax", {"guide": ("c",)}),
        ("softmax", {"margin": -1.0}),
        ("softmax", {"angular_margin": 2.0}),
        ("gte", {"guide": ("c",)}),
        ("nt_xent", {"views": ("a", "b", "c")}),
        ("supervised", {"views": ()}),
        ("one_to_k", {"scale": 0.0}),
        ("attraction_repulsion", {"t_minus": 0.0}),
        ("attraction_repulsion", {"views": ("a",)}),
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
