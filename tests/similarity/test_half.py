"""float16 embeddings: gradients as exact as the numbers that hold them, however small the cotangent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_numerics import unit

import contrastive_jax as cj
from contrastive_jax.similarity import Dot, Scores, Weighted, cross_entropy, expectation, total
from contrastive_jax.similarity.half import power

SCALE = 20.0
LEAST = 2.0**-24  # of float16


def _softplus(dots, rows, columns, shared):
    return jax.nn.softplus(SCALE * dots - 3)


def _weighted(dots, rows, columns, shared):
    return Weighted(SCALE * dots, dots**2)


def _of_tokens(rows, columns, shared):
    """No Dot: its own derivative is taken, through whatever is float16 there."""
    dots = jnp.einsum(
        "rd,cd->rc", rows["embedding"], columns["embedding"], preferred_element_type=shared.dtype
    )
    return Scores(SCALE * dots, targets=rows["id"][:, None] == columns["id"][None, :])


def weigh(sums, weights):
    return ((sums.row_lse - sums.row_target) * weights[0]).sum() + (sums.column_lse * weights[1]).sum()


BOUND = {"bound": lambda _: jnp.float32(SCALE)}
REDUCTIONS = {
    "cross_entropy": lambda a, b, w, **k: weigh(
        cross_entropy(Dot(lambda dots, *_: SCALE * dots, **BOUND), a, b, targets="diagonal", **k), w
    ),
    "any logits": lambda a, b, w, **k: weigh(
        cross_entropy(Dot(lambda dots, *_: SCALE * dots), a, b, targets="diagonal", **k), w
    ),
    "any tile": lambda a, b, w, **k: weigh(cross_entropy(_of_tokens, a, b, w[0][0], **k), w),
    "total": lambda a, b, w, **k: total(Dot(_softplus), a, b, **k) * w[0].mean(),
    "expectation": lambda a, b, w, **k: (expectation(Dot(_weighted), a, b, **k) * w[0]).sum(),
}


def gradients(name, z, weights, **engine):
    def value(a, b):
        sides = ({"embedding": x, "id": jnp.arange(len(x))} for x in (a, b))
        return REDUCTIONS[name](*sides, weights, **engine)

    return [np.asarray(x, np.float64) for x in jax.jit(jax.grad(value, (0, 1)))(*z)]


def are_near(name, n: int, size: float, centre: float = 0.0, **engine):
    """Against the same numbers in float64, but for the float16 that a gradient is returned in."""
    rng = np.random.default_rng(n)
    z = np.stack([unit(centre + rng.normal(size=(n, 16))) for _ in range(2)]).astype(np.float16)
    weights = rng.uniform(0.5, 1.5, size=(2, n)) * size / n
    got = gradients(name, z, weights.astype(np.float32), **engine)
    with jax.enable_x64(True):
        want = gradients(name, z.astype(np.float64), weights, block=64)
    for a, b in zip(got, want):
        assert np.abs(a - b).max() < 2e-3 * np.abs(b).max() + LEAST


@pytest.mark.parametrize("name", REDUCTIONS)
@given(n=st.integers(2, 200), exponent=st.integers(-6, 4))
def test_gradients_of_any_size(name, n, exponent):
    are_near(name, n, 10.0**exponent, block=64)


@pytest.mark.parametrize("name", ["cross_entropy", "total"])
def test_gradients_by_kernels(name):
    are_near(name, 100, 1e4, backend="pallas")


@pytest.mark.parametrize(
    ("name", "engine"),
    [*((name, {"block": 512}) for name in REDUCTIONS), ("cross_entropy", {"backend": "pallas"})],
)
def test_what_a_batch_of_a_million_gives_each_pair(name, engine):
    """What a pair adds to a float16 gradient is below all of them, and together they count."""
    are_near(name, 1024, 1.5e-3, centre=1.0, **engine)


def test_a_batch_that_adds_up_beyond_float16():
    """The sum over the columns is over 65,504 before the mean divides it."""
    z = jnp.ones((4096, 1), jnp.float16)
    loss = jax.jit(jax.grad(lambda z: cj.sigmoid_contrastive(z, z, scale=100.0, bias=-100.0).value))
    want = 2 * 100.0 * (4096 / 2 - 1) / 4096
    np.testing.assert_allclose(np.asarray(loss(z), np.float32), want, rtol=2e-3)


def test_weights_of_a_batch_may_be_float16():
    """Their sum is beyond it."""
    z, ones = jnp.asarray(np.eye(4, dtype=np.float32)[np.arange(300) % 4]), 60000 * jnp.ones(300, jnp.float16)
    for keywords in ({}, {"label_smoothing": 0.1}):
        loss = jax.jit(lambda w, k=keywords: cj.softmax_contrastive(z, z, scale=2.0, weights=w, **k).value)
        assert loss(ones) == pytest.approx(float(loss(jnp.ones(300))), rel=1e-5)


def test_products_of_four_embeddings():
    """Symile's: elements of a product of three are below float16's least."""
    z = [unit(np.random.default_rng(i).normal(size=(16, 256))).astype(np.float16) for i in range(4)]
    loss = jax.jit(lambda *z: cj.symile(z, scale=3e5, key=jax.random.key(0)).value)
    assert loss(*z) == pytest.approx(float(loss(*(x.astype(np.float32) for x in z))), rel=2e-6)


def test_powers_are_exact():
    for x in (1e-28, 3e-5, 1.0, 7.3, 65536.0, 1e29):
        factor = float(power(jnp.float32(x), 3))
        assert np.log2(factor) == round(np.log2(factor))
        assert 4 <= x * factor < 8
    assert [float(power(jnp.float32(x), 3)) for x in (0.0, np.inf, np.nan)] == [1, 1, 1]
