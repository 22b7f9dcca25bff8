"""How exact the fast path is: narrow inputs, large scales, hard negatives, and the scale's own gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.similarity import Dot, cross_entropy

TILE = Dot(lambda dots, rows, columns, shared: shared * dots, bound=lambda shared: shared)
SIZES = [(768, 64), pytest.param((4096, 512), marks=pytest.mark.slow)]


def unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def clustered(n: int, d: int, noise: float):
    """Pairs in clusters of 16: a row's cluster is full of negatives about as close as its positive."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(n // 16, d)), 16, axis=0)
    return (unit(unit(centres + noise * rng.normal(size=(n, d)))) for _ in range(2))


def easy(n: int, d: int):
    """Each row on its own column, all others 0.29 further: at scale 50 the loss is some 1e-3."""
    rng = np.random.default_rng(0)
    q = unit(unit(rng.normal(size=(1, d))) + 0.64 * unit(rng.normal(size=(n, d))))
    return q, q


def loss(q, k, scale, **engine):
    sums = cross_entropy(TILE, {"embedding": q}, {"embedding": k}, scale, targets="diagonal", **engine)
    each = sums.row_lse - sums.row_target + sums.column_lse - sums.column_target
    return each.mean() / 2


def dense(q, k, scale):
    """The same gradients by formula, in float64."""
    logits = scale * q @ k.T
    n = len(logits)
    both = jax.nn.softmax(logits, axis=1) + jax.nn.softmax(logits, axis=0) - 2 * jnp.eye(n)
    weight = both / (2 * n)
    return scale * weight @ k, scale * weight.T @ q, (weight * logits).sum() / scale


def gradients(q, k, scale, dtype, **engine):
    q, k = (jnp.asarray(z, dtype) for z in (q, k))
    got = jax.jit(jax.grad(lambda *a: loss(*a, **engine), (0, 1, 2)))(q, k, jnp.float32(scale))
    exact = [np.asarray(z.astype(jnp.float32), np.float64) for z in (q, k)]
    with jax.enable_x64(True):
        return got, jax.jit(dense)(*exact, float(scale))


def error(got, want):
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    return np.linalg.norm(got - want) / np.linalg.norm(want)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [14.3, 50.0, 100.0])
@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 1e-5), (jnp.bfloat16, 6e-3)])
def test_gradients_on_hard_negatives(size, scale, dtype, bound):
    q, k = clustered(*size, noise=0.8)
    for keep in (0, 2**30):
        got, want = gradients(q, k, scale, dtype, keep=keep)
        assert got[0].dtype == dtype
        assert max(error(*pair) for pair in zip(got, want)) < bound


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 1e-4), (jnp.bfloat16, 1e-2)])
def test_the_gradient_of_the_scale_on_an_easy_batch(size, dtype, bound):
    q, k = easy(*size)
    for scale in (14.3, 50.0):
        got, want = gradients(q, k, scale, dtype)
        assert np.sign(got[2]) == np.sign(want[2])
        assert error(got[2], want[2]) < bound


@pytest.mark.parametrize("scale", [14.3, 100.0])
def test_collapsed_embeddings_do_not_overflow(scale):
    """At the start all embeddings may be nearly one: every logit is at the bound."""
    z = jnp.ones((2048, 4)) / 2
    assert loss(z, z, scale) == pytest.approx(np.log(2048), rel=1e-5)


def test_rows_with_no_close_column_are_right():
    """Every logit of a row far below the bound: its sum would vanish, so all are taken again."""
    q = unit(np.random.default_rng(0).normal(size=(64, 8)))
    k = unit(np.random.default_rng(1).normal(size=(64, 8)))
    k[:, 0] = -3
    q[:8] = np.eye(8)[0]
    got, want = gradients(q, unit(k), 100.0, jnp.float32)
    assert max(error(*pair) for pair in zip(got, want)) < 1e-5
