"""DirectPred and DirectCopy: W by its definition, its exact properties, and what moves the correlation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive_jax.encoders.heads import KINDS

X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 6)), jnp.float32)


def applied(head, x=X, statistics=None, train=True):
    return head.apply({}, x, train=train, key=None, statistics=statistics or {})


def test_nothing_is_learned():
    head = KINDS["direct_predictor"]()
    assert head.init(jax.random.key(0), X) == head.logical_axes(X) == {}
    assert jax.tree.map(jnp.shape, head.statistics(X)) == {"correlation": (6, 6)}


@pytest.mark.parametrize("copy", [False, True])
def test_the_first_batch_passes_and_is_remembered(copy):
    head = KINDS["direct_predictor"](rho=0.3, copy=copy)
    z, after = applied(head)
    np.testing.assert_allclose(z, X, rtol=1e-6)
    np.testing.assert_allclose(after["correlation"], 0.7 * X.T @ X / 16, rtol=1e-5, atol=1e-6)
    _, later = applied(head, 2 * X, after)
    np.testing.assert_allclose(
        later["correlation"], (0.3 * 0.7 + 0.7 * 4) * X.T @ X / 16, rtol=1e-5, atol=1e-5
    )
    _, still = applied(head, 2 * X, after, train=False)
    np.testing.assert_array_equal(still["correlation"], after["correlation"])


def test_w_by_its_definition():
    """Of a diagonal F: the square roots of its entries as shares of the largest, plus eps, at least floor."""
    F = jnp.diag(jnp.array([4.0, 1.0, 0.25, 0.0, -1e-9, 0.04]))
    W = KINDS["direct_predictor"](eps=0.01, floor=0.05).predictor(F)
    np.testing.assert_allclose(W, np.diag([1.01, 0.51, 0.26, 0.05, 0.05, 0.11]), atol=1e-6)
    W = KINDS["direct_predictor"](eps=0.01, copy=True).predictor(F)
    np.testing.assert_allclose(W, F + 0.01 * jnp.eye(6), atol=1e-7)


@pytest.mark.parametrize("copy", [False, True])
def test_w_is_symmetric_positive_and_commutes_with_f(copy):
    with jax.enable_x64(True):
        x = X.astype(jnp.float64)[:4]  # of rank 4 in six dimensions
        F = x.T @ x / 4
        W = KINDS["direct_predictor"](copy=copy).predictor(F)
        np.testing.assert_allclose(W, W.T, atol=1e-12)
        np.testing.assert_allclose(W @ F, F @ W, atol=1e-12)
        assert (jnp.linalg.eigvalsh(W) > 0).all()


def test_the_gradient_is_that_of_a_constant_matrix():
    head = KINDS["direct_predictor"]()
    _, after = applied(head)
    W = head.predictor(after["correlation"])
    g = jax.grad(lambda x: (applied(head, x, after)[0] ** 2).sum())(X)
    np.testing.assert_allclose(g, 2 * X @ W @ W.T, rtol=1e-4, atol=1e-5)
    of_statistics = jax.grad(lambda x: applied(head, x, after)[1]["correlation"].sum())(X)
    assert not of_statistics.any()


def test_a_sharded_batch_changes_nothing():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    with jax.enable_x64(True):
        head, x = KINDS["direct_predictor"](), X.astype(jnp.float64)

        @jax.jit
        def run(x, statistics):
            z, after = applied(head, x, statistics)
            return z, after, jax.grad(lambda x: jnp.sin(applied(head, x, statistics)[0]).sum())(x)

        start = {"correlation": x.T @ x}
        want = run(x, start)
        with jax.set_mesh(mesh):
            got = run(jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))), start)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)
