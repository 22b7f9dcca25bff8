"""Softmax contrastive: golden values, what an ignored pair does not do, the bound of the scale."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import unit, value

from contrastive_jax import softmax_contrastive
from contrastive_jax.errors import InputError
from contrastive_jax.losses import KINDS

Softmax = KINDS["softmax"]


@pytest.mark.parametrize(("scale", "want"), [(1.0, math.log(1 + 3 / math.e)), (20.0, 6.183e-9)])
def test_orthonormal_pairs(scale, want):
    with jax.enable_x64(True):
        got = value(softmax_contrastive, np.eye(4), np.eye(4), scale=scale)
    assert got == pytest.approx(want, rel=1e-3)


def test_collapsed_embeddings():
    same = jnp.ones((64, 1))
    got = value(softmax_contrastive, same, same, scale=14.3)
    assert got == pytest.approx(math.log(64), abs=3e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_orthonormal_pairs_with_smoothing(smoothing):
    """ALIGN's loss in closed form: a twelfth of the smoothing is on the positive too."""
    z = jnp.eye(12)
    want = math.log(math.exp(3.0) + 11) - (1 - smoothing) * 3.0 - smoothing * 3.0 / 12
    assert value(softmax_contrastive, z, z, scale=3.0, label_smoothing=smoothing) == pytest.approx(
        want, rel=1e-5
    )


def test_a_row_against_zeros():
    """One positive of cosine 1 and 4,096 negatives of cosine 0 at temperature 0.2."""
    row, columns = jnp.ones((1, 1)), jnp.concatenate([jnp.ones((1, 1)), jnp.zeros((4096, 1))])
    ids = jnp.zeros(1, int), jnp.arange(4097)
    got = value(softmax_contrastive, row, columns, scale=5.0, positives=ids, symmetric=False)
    assert got == pytest.approx(3.353359, abs=1e-5)


def test_no_positive_at_all_is_zero_not_nan():
    z = jnp.asarray(unit(0, 4, 6))
    ids = jnp.arange(4), jnp.arange(4) + 10
    loss = jax.jit(jax.value_and_grad(lambda z: softmax_contrastive(z, z, scale=10.0, positives=ids).value))
    none, gradient = loss(z)
    assert none == 0
    assert not gradient.any()


def test_an_ignored_pair_pushes_nothing():
    """Two characters with one picture: neither row feels the other's column."""
    z, pictures = jnp.asarray(unit(0, 3, 6)), jnp.array([7, 7, 9])
    gradient = jax.jit(
        jax.grad(lambda c: softmax_contrastive(z, c, scale=5.0, ignore=pictures, symmetric=False).value)
    )(z)
    want = _row_gradient(z, [0, 2], 0, 0) + _row_gradient(z, [0, 1, 2], 2, 0)  # row 1 leaves column 0 alone
    np.testing.assert_allclose(gradient[0] * 3, want, atol=1e-5)


def _row_gradient(z, columns, row, column):
    """d/dcolumn of -log softmax of `row` over `columns`, positive = row, at scale 5."""

    def loss(c):
        logits = 5.0 * z[row] @ z.at[column].set(c)[jnp.array(columns)].T
        return jax.nn.logsumexp(logits) - logits[columns.index(row)]

    return jax.jit(jax.grad(loss))(z[column])


def test_metrics():
    metrics = jax.jit(lambda z: softmax_contrastive(z, z, scale=1.0).metrics)(jnp.eye(4))
    assert metrics["positive_logit"] == pytest.approx(1.0)
    assert metrics["positive_probability"] == pytest.approx(math.e / (math.e + 3), rel=1e-5)


def test_the_bound_of_the_scale_is_a_projection():
    loss = Softmax(rows="a", columns="b", scale=90.0, scale_max=100.0)
    over = {"log_scale": jnp.log(jnp.float32(150.0))}
    assert jnp.exp(loss.project(over)["log_scale"]) == pytest.approx(100.0, rel=1e-5)
    z = jnp.asarray(unit(0, 4, 6))
    gradient = jax.jit(jax.grad(lambda p: loss(p, {"a": z, "b": -z}, {}).value))(over)
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
