"""What holds of every loss: in microbatches, with bad numbers, with one example, in narrow numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import unit

import contrastive_jax as cj

# Each as a function of three [B, d] embeddings and a scale.
LOSSES = {
    "softmax": lambda a, b, c, scale, **k: cj.softmax_contrastive(a, b, scale=scale, **k),
    "softmax, one way": lambda a, b, c, scale, **k: cj.softmax_contrastive(
        a, b, scale=scale, negatives=c, margin=0.2, decoupled=True, symmetric=False, **k
    ),
    "softmax, labelled": lambda a, b, c, scale, **k: cj.softmax_contrastive(
        a, b, scale=scale, positives=jnp.arange(len(a)) // 2, label_smoothing=0.1, **k
    ),
    "guided": lambda a, b, c, scale, **k: cj.softmax_contrastive(
        a, b, scale=scale, guide=(c, c[::-1]), memory=jnp.ones((3, a.shape[1])), **k
    ),
    "gte": lambda a, b, c, scale, **k: cj.gte_contrastive(a, b, scale=scale, negatives=c, **k),
    "sigmoid": lambda a, b, c, scale, **k: cj.sigmoid_contrastive(a, b, scale=scale, bias=-1.0, **k),
    "nt_xent": lambda a, b, c, scale, **k: cj.nt_xent(a, b, scale=scale, **k),
    "supervised": lambda a, b, c, scale, **k: cj.supervised_contrastive(
        jnp.stack([a, b, c], 1), jnp.arange(len(a)) // 2, scale=scale, **k
    ),
    "one_to_k": lambda a, b, c, scale, **k: cj.one_to_k(a, jnp.stack([b, c], 1), scale=scale, **k),
    "attraction_repulsion": lambda a, b, c, scale, **k: cj.attraction_repulsion(
        jnp.stack([a, b, c], 1), t_minus=scale, **k
    ),
    "symile": lambda a, b, c, scale, **k: cj.symile([a, b, c], scale=scale, key=jax.random.key(0), **k),
    "symile, all": lambda a, b, c, scale, **k: cj.symile([a, b, c], scale=scale, negatives="all", **k),
    "momentum_contrast": lambda a, b, c, scale, **k: cj.momentum_contrast(
        a, b, c, scale=scale, label_smoothing=0.1, **k
    ),
    "hard_contrastive": lambda a, b, c, scale, **k: cj.hard_contrastive(a, b, scale=scale, fraction=0.5, **k),
    "simple_contrastive": lambda a, b, c, scale, **k: cj.simple_contrastive(
        a, b, repulsion=scale, fraction=0.5, **k
    ),
    "alignment_uniformity": lambda a, b, c, scale, **k: cj.alignment_uniformity(a, b, t=scale, **k),
    "cross_correlation": lambda a, b, c, scale, **_: cj.cross_correlation(a, b, off_diagonal=scale),
    "mixed_barlow": lambda a, b, c, scale, **_: cj.mixed_barlow(
        a, b, c, jnp.flip(jnp.arange(len(a))), 0.3, off_diagonal=scale
    ),
    "late_interaction": lambda a, b, c, scale, **k: cj.late_interaction(
        jnp.stack([a, c], 1), b[:, None], scale=scale, **k
    ),
}
every = pytest.mark.parametrize("name", LOSSES)
SLOW = {
    "softmax, one way",
    "softmax, labelled",
    "guided",
    "gte",
    "nt_xent",
    "one_to_k",
    "symile",
    "hard_contrastive",
    "simple_contrastive",
    "mixed_barlow",
}


def all_but(slow):
    """Every loss, those whose reduction another one has as well in `make test-all` only."""
    marked = [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in LOSSES]
    return pytest.mark.parametrize("name", marked)


@functools.cache
def compiled(name: str):
    """(three embeddings, scale) -> value and gradients; one program for all tests of a shape."""
    return jax.jit(jax.value_and_grad(lambda z, scale: LOSSES[name](*z, scale).value, (0, 1)))


def embeddings(n: int = 6, dtype=jnp.float32):
    return jnp.asarray(unit(0, 3, n, 4), dtype)


@all_but(SLOW)
def test_microbatches_change_nothing(name):
    """Linear encoders over checkpointed microbatches, then the loss: the gradient of all examples at once."""
    x = jnp.asarray(unit(1, 3, 6, 5), jnp.float32)

    def encode(weights, x):
        parts = jax.lax.map(jax.checkpoint(lambda part: jnp.tanh(part @ weights)), x.reshape(3, 2, 5))
        return parts.reshape(6, 4)

    @jax.jit
    @jax.value_and_grad
    def in_parts(arguments):
        weights, scale = arguments
        return LOSSES[name](*map(encode, weights, x), scale, engine={"block": 4}).value

    weights = jnp.asarray(unit(2, 3, 5, 4), jnp.float32)
    z, pull = jax.vjp(lambda w: jnp.tanh(jnp.einsum("mbi,mio->mbo", x, w)), weights)
    want, (of_z, of_scale) = compiled(name)(z, 2.0)
    got, gradients = in_parts((weights, jnp.float32(2.0)))
    np.testing.assert_allclose(got, want, rtol=2e-5)
    for a, b in zip(gradients, (pull(of_z)[0], of_scale), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@every
def test_bad_numbers_are_infinite_and_move_nothing(name):
    z, loss = embeddings(), compiled(name)
    value, gradients = loss(z, 2.0)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(g).all() and g.any() for g in gradients)
    bad = [(z.at[0, 3, 1].set(x).at[1, 5].set(x), 2.0) for x in (jnp.nan, jnp.inf, -1e30)]
    for arguments in (*bad, (z, jnp.nan)):
        value, gradients = loss(*arguments)
        assert jnp.isposinf(value)
        assert not any(g.any() for g in gradients)


@every
def test_one_example(name):
    """Nothing to tell it from; value and gradients are finite."""
    value, gradients = compiled(name)(embeddings(1), 2.0)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((value, gradients)))
    if name in ("softmax", "softmax, labelled", "nt_xent", "symile", "symile, all", "late_interaction"):
        assert abs(value) < 1e-5


@pytest.mark.parametrize(
    "name", [name for name in LOSSES if name not in ("cross_correlation", "mixed_barlow")]
)
def test_a_scale_is_positive(name):
    z = jnp.ones((3, 4, 3))
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="give a positive number"):
            LOSSES[name](*z, wrong)


@every
def test_widths_that_differ_are_refused(name):
    z = jnp.ones((4, 3)), jnp.ones((4, 2)), jnp.ones((4, 5))
    with pytest.raises(ValueError):
        jax.eval_shape(lambda z: LOSSES[name](*z, 1.0).value, z)


@all_but(set(LOSSES) - {"softmax", "symile, all"})
def test_narrow_embeddings(name):
    """bfloat16 embeddings give a float32 value near that of the same numbers in float32."""
    z = embeddings(dtype=jnp.bfloat16)
    (narrow, (gradient, _)), (wide, _) = compiled(name)(z, 2.0), compiled(name)(z.astype(jnp.float32), 2.0)
    assert (narrow.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    assert float(narrow) == pytest.approx(float(wide), rel=2e-2)
