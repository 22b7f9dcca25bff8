"""What holds of every loss: microbatches change nothing, bad numbers are +inf without gradient, one example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import make_mesh, unit

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
    "late_interaction": lambda a, b, c, scale, **k: cj.late_interaction(
        jnp.stack([a, c], 1), b[:, None], scale=scale, **k
    ),
}
WITHOUT_NEGATIVES = dict.fromkeys(LOSSES, 0.0) | {"sigmoid": None, "attraction_repulsion": None}
every = pytest.mark.parametrize("name", LOSSES)


@every
def test_microbatches_change_nothing(name):
    """A linear encoder over microbatches, on a mesh, then the loss: the gradient of the encoder of all at once."""
    x = unit(0, 3, 8, 5)

    def encoded(weights, x, microbatch):
        split = x.reshape(-1, microbatch, x.shape[-1])
        return jax.lax.map(jax.checkpoint(lambda part: jnp.tanh(part @ weights)), split).reshape(len(x), -1)

    def objective(arguments, microbatch, **engine):
        weights, scale = arguments
        z = (encoded(w, jnp.asarray(part), microbatch) for w, part in zip(weights, x))
        return LOSSES[name](*z, scale, **engine).value

    with jax.enable_x64(True):
        arguments = jnp.asarray(unit(1, 3, 5, 4)), jnp.float64(3.0)
        whole = jax.jit(jax.value_and_grad(lambda a: objective(a, 8)))(arguments)
        with jax.set_mesh(make_mesh((2, 2))):
            parts = jax.jit(jax.value_and_grad(lambda a: objective(a, 2, engine={"block": 3})))(arguments)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@every
def test_bad_numbers_are_infinite_and_move_nothing(name):
    z = jnp.asarray(unit(0, 3, 6, 4), jnp.float32)
    loss = jax.jit(jax.value_and_grad(lambda z, scale: LOSSES[name](*z, scale).value, (0, 1)))
    value, gradients = loss(z, 2.0)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(g).all() and g.any() for g in gradients)
    for bad in (jnp.nan, jnp.inf, -1e30):
        value, gradients = loss(z.at[0, 3, 1].set(bad).at[1, 5].set(bad), 2.0)
        assert jnp.isposinf(value)
        assert not any(g.any() for g in gradients)
    value, gradients = loss(z, jnp.nan)
    assert jnp.isposinf(value)
    assert not any(g.any() for g in gradients)


@every
def test_one_example(name):
    """Nothing to tell it from: no loss but what the pair itself says, and finite gradients."""
    z = jnp.asarray(unit(0, 3, 1, 4), jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda z: LOSSES[name](*z, 2.0).value))(z)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


@every
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


@every
def test_values_are_means_over_the_global_batch(name):
    """bfloat16 embeddings give a float32 value near that of the same numbers in float32."""
    z = jnp.asarray(unit(0, 3, 6, 4), jnp.bfloat16)
    loss = jax.jit(lambda z: LOSSES[name](*z, 2.0).value)
    narrow, wide = loss(z), loss(z.astype(jnp.float32))
    assert narrow.dtype == jnp.float32
    assert float(narrow) == pytest.approx(float(wide), rel=2e-2)
