"""Softmax contrastive: golden values, and equality with the formula over the whole matrix."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType

from contrastive_jax import softmax_contrastive
from contrastive_jax.errors import InputError
from contrastive_jax.losses import KINDS

Softmax = KINDS["softmax"]


def unit(seed: int, n: int, d: int = 6):
    z = np.random.default_rng(seed).normal(size=(n, d))
    return jnp.asarray(z / np.linalg.norm(z, axis=1, keepdims=True))


def by_definition(rows, columns, scale, positive, valid, smoothing=0.0, symmetric=True):
    """The docstring's formula, one direction after the other."""

    def one_direction(logits, positive, valid):
        positive = positive & valid
        lse = jax.nn.logsumexp(jnp.where(valid, logits, -jnp.inf), axis=1)
        wanted = (logits * positive).sum(1) / jnp.maximum(positive.sum(1), 1)
        every = jnp.where(valid, logits, 0).sum(1) / jnp.maximum(valid.sum(1), 1)
        has = positive.any(1)
        each = jnp.where(has, jnp.where(has, lse, 0) - (1 - smoothing) * wanted - smoothing * every, 0)
        return each.sum() / jnp.maximum(has.sum(), 1)

    logits = scale * rows @ columns.T
    value = one_direction(logits, positive, valid)
    return (value + one_direction(logits.T, positive.T, valid.T)) / 2 if symmetric else value


@pytest.mark.parametrize(("scale", "want"), [(1.0, math.log(1 + 3 / math.e)), (20.0, 6.183e-9)])
def test_orthonormal_pairs(scale, want):
    with jax.enable_x64(True):
        value = softmax_contrastive(jnp.eye(4), jnp.eye(4), scale=scale).value
    assert value == pytest.approx(want, rel=1e-3)


def test_collapsed_embeddings():
    same = jnp.ones((64, 1))
    assert softmax_contrastive(same, same, scale=14.3).value == pytest.approx(math.log(64), abs=3e-6)


def test_a_row_against_zeros():
    """One positive of cosine 1 and 4,096 negatives of cosine 0 at temperature 0.2."""
    row, columns = jnp.ones((1, 1)), jnp.concatenate([jnp.ones((1, 1)), jnp.zeros((4096, 1))])
    ids = jnp.zeros(1, int), jnp.arange(4097)
    loss = softmax_contrastive(row, columns, scale=5.0, positives=ids, symmetric=False)
    assert loss.value == pytest.approx(3.353359, abs=1e-5)


@given(
    n=st.integers(1, 24),
    seed=st.integers(0, 99),
    labelled=st.booleans(),
    ignoring=st.booleans(),
    absent=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1]),
    symmetric=st.booleans(),
    mesh=st.sampled_from([(1,), (8,), (2, 2)]),
)
def test_equals_the_definition(n, seed, labelled, ignoring, absent, smoothing, symmetric, mesh):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 5, n) if labelled else np.arange(n)
    pictures = rng.integers(0, 6, n)
    present = rng.random(n) < 0.8 if absent else np.ones(n, bool)
    positive = ids[:, None] == ids[None, :]
    valid = present[:, None] & present[None, :]
    if ignoring:
        valid &= positive | (pictures[:, None] != pictures[None, :])
    keywords = {
        "positives": jnp.asarray(ids) if labelled else None,
        "ignore": jnp.asarray(pictures) if ignoring else None,
        "present": jnp.asarray(present) if absent else None,
        "label_smoothing": smoothing,
        "symmetric": symmetric,
    }
    names = ("data", "fsdp")[: len(mesh)]
    mesh = jax.make_mesh(
        mesh, names, axis_types=(AxisType.Auto,) * len(mesh), devices=jax.devices()[: math.prod(mesh)]
    )
    with jax.enable_x64(True):
        arguments = unit(seed, n), unit(seed + 1, n), jnp.float64(7.0)

        @jax.jit
        @jax.value_and_grad
        def want(arguments):
            return by_definition(*arguments, positive, valid, smoothing, symmetric)

        @jax.jit
        @jax.value_and_grad
        def got(arguments):
            rows, columns, scale = arguments
            return softmax_contrastive(rows, columns, scale=scale, engine={"block": 5}, **keywords).value

        with jax.set_mesh(mesh):
            pairs = zip(jax.tree.leaves(got(arguments)), jax.tree.leaves(want(arguments)))
            for a, b in pairs:
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_no_positive_at_all_is_zero_not_nan():
    z = unit(0, 4)
    ids = jnp.arange(4), jnp.arange(4) + 10
    value, gradient = jax.value_and_grad(
        lambda z: softmax_contrastive(z, z, scale=10.0, positives=ids).value
    )(z)
    assert value == 0
    assert not gradient.any()


def test_an_ignored_pair_pushes_nothing():
    """Two characters with one picture: neither row feels the other's column."""
    z, pictures = unit(0, 3), jnp.array([7, 7, 9])
    gradient = jax.grad(
        lambda c: softmax_contrastive(z, c, scale=5.0, ignore=pictures, symmetric=False).value
    )(z)
    want = _row_gradient(z, [0, 2], 0, 0) + _row_gradient(z, [0, 1, 2], 2, 0)  # row 1 leaves column 0 alone
    np.testing.assert_allclose(gradient[0] * 3, want, atol=1e-5)


def _row_gradient(z, columns, row, column):
    """d/dcolumn of -log softmax of `row` over `columns`, positive = row, at scale 5."""

    def loss(c):
        logits = 5.0 * z[row] @ z.at[column].set(c)[jnp.array(columns)].T
        return jax.nn.logsumexp(logits) - logits[columns.index(row)]

    return jax.grad(loss)(z[column])


def test_metrics():
    loss = softmax_contrastive(jnp.eye(4), jnp.eye(4), scale=1.0)
    assert loss.metrics["positive_logit"] == pytest.approx(1.0)
    assert loss.metrics["positive_probability"] == pytest.approx(math.e / (math.e + 3), rel=1e-5)


def test_the_bound_of_the_scale_is_a_projection():
    loss = Softmax(rows="a", columns="b", scale=90.0, scale_max=100.0)
    over = {"log_scale": jnp.log(jnp.float32(150.0))}
    assert jnp.exp(loss.project(over)["log_scale"]) == pytest.approx(100.0, rel=1e-5)
    z = unit(0, 4)
    gradient = jax.grad(lambda p: loss(p, {"a": z, "b": -z}, {}).value)(over)
    assert gradient["log_scale"] > 0  # over the bound the loss still pulls it back
    unbounded = Softmax(rows="a", columns="b", scale_max=None)
    assert unbounded.project(over) == over


@pytest.mark.parametrize("wrong", [{"label_smoothing": 1.0}, {"scale": 0.0}, {"scale": 200.0}])
def test_refused_settings(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Softmax(rows="a", columns="b", **wrong)


def test_refused_shapes():
    z = jnp.ones((4, 3))
    with pytest.raises(ValueError, match="say which belong together"):
        softmax_contrastive(z, z[:2], scale=1.0)
    with pytest.raises(ValueError, match="labels have shape"):
        softmax_contrastive(z, z, scale=1.0, positives=jnp.arange(3))
    with pytest.raises(ValueError, match="give \\[R, d\\]"):
        softmax_contrastive(z, z[:, :2], scale=1.0)
