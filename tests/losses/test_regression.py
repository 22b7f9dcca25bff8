"""Cosine regression: its definition, its range, and that targets are not moved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, make_mesh, random_cases, unit

from contrastive_jax import cosine_regression


@random_cases
def test_equals_the_squared_distance_of_unit_vectors(seed):
    mesh, n = draw(seed, "regression", (1, 21))
    predictions, targets = 3 * unit(seed, n, 4), 0.1 * unit(seed + 1, n, 4)

    def definition(predictions, targets):
        p, t = (z / jnp.linalg.norm(z, axis=1, keepdims=True) for z in (predictions, targets))
        return jnp.mean(jnp.sum((p - jax.lax.stop_gradient(t)) ** 2, 1))

    is_the_same(lambda p, t, engine: cosine_regression(p, t), definition, (predictions, targets), mesh)


@pytest.mark.parametrize(("sign", "want"), [(1, 0), (-1, 4)])
def test_the_range(sign, want):
    z = jnp.asarray(unit(0, 5, 4), jnp.float32)
    found = cosine_regression(z, sign * 7 * z)
    assert float(found.value) == pytest.approx(want, abs=1e-6)
    assert float(found.metrics["cosine"]) == pytest.approx(sign)
    assert float(found.value) / 2 - 1 == pytest.approx(-sign)  # SimSiam's


def test_targets_have_no_gradient_and_zeros_are_finite():
    a, b = jnp.asarray(unit(0, 2, 5, 4), jnp.float32)
    of_a, of_b = jax.grad(lambda *z: cosine_regression(*z).value, (0, 1))(a.at[2].set(0), b)
    assert not of_b.any()
    assert jnp.isfinite(of_a).all()
    assert not of_a[2].any()


def test_bad_numbers_are_infinite_and_move_nothing():
    a, b = jnp.asarray(unit(0, 2, 5, 4), jnp.float32)
    for pair in ((a.at[1, 2].set(jnp.nan), b), (a, b.at[1, 2].set(jnp.inf))):
        value, gradient = jax.value_and_grad(lambda *z: cosine_regression(*z).value)(*pair)
        assert jnp.isposinf(value)
        assert not gradient.any()


def test_a_sharded_batch_changes_nothing():
    a, b = jnp.asarray(unit(0, 2, 16, 4), jnp.float32)
    run = jax.jit(jax.value_and_grad(lambda *z: cosine_regression(*z).value))
    want, mesh = run(a, b), make_mesh((8,))
    with jax.set_mesh(mesh):
        rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
        got = run(*jax.device_put((a, b), rows))
    for x, y in zip(got, want):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_refused_shapes():
    with pytest.raises(ValueError, match="give two of"):
        cosine_regression(jnp.ones((4, 3)), jnp.ones((4, 2)))
