"""Attraction and repulsion: the formula, with and without the gradient of weights, and the exact cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, unit

from contrastive_jax import attraction_repulsion


def definition(z, t_plus, t_minus, weights_gradient=True):
    n, k, d = z.shape
    flat, own = z.reshape(n * k, d), np.repeat(np.arange(n), k)
    distances = jnp.sum((flat[:, None] - flat[None]) ** 2, -1)
    kin = own[:, None] == own[None]

    def weighted(mask, logits):
        weights = jax.nn.softmax(jnp.where(mask, logits, -1e30), 1) * mask
        return ((weights if weights_gradient else jax.lax.stop_gradient(weights)) * distances).sum(1)

    pull = weighted(kin & ~np.eye(n * k, dtype=bool), t_plus * distances)
    return (pull - weighted(~kin, -t_minus * distances)).mean()


@random_cases
def test_equals_the_definition(seed):
    mesh, n, k, gradient = draw(seed, "attraction", (1, 10), (2, 5), [True, False])

    def loss(z, t_plus, t_minus, engine):
        return attraction_repulsion(
            z, t_plus=t_plus, t_minus=t_minus, weights_gradient=gradient, engine=engine
        )

    z = np.random.default_rng(seed).normal(size=(n, k, 4))  # of any length
    is_the_same(loss, lambda *a: definition(*a, gradient), (z, 0.7, 0.4), mesh)


def metrics(z, **keywords):
    return jax.tree.map(float, jax.jit(lambda z: attraction_repulsion(z, **keywords).metrics)(z))


def test_equal_distances_are_the_unweighted_mean():
    found = metrics(jnp.eye(6).reshape(3, 2, 6), t_plus=3.0, t_minus=5.0)
    assert found == pytest.approx({"attraction": 2.0, "repulsion": -2.0}, rel=1e-6)


def test_two_views_attract_by_their_distance():
    """With one other view there is nothing to weigh: the plain alignment loss, whatever t_plus."""
    z = jnp.asarray(unit(0, 5, 2, 4), jnp.float32)
    want = float(((z[:, 0] - z[:, 1]) ** 2).sum(-1).mean())
    for t_plus in (0.1, 4.0):
        assert metrics(z, t_plus=t_plus)["attraction"] == pytest.approx(want, rel=1e-5)


def test_negatives_weigh_what_they_weigh_in_infonce():
    """For unit vectors exp(-t |u - v|^2) is exp(2 t <u, v>) up to a factor that all share."""
    z, t_minus = jnp.asarray(unit(1, 5, 1, 4), jnp.float32), 1.3
    dots = z[:, 0] @ z[:, 0].T
    weights = jax.nn.softmax(2 * t_minus * dots - 1e9 * jnp.eye(5), axis=1)
    want = -(weights * (2 - 2 * dots)).sum(1).mean()
    found = metrics(z, t_minus=t_minus)
    assert found == pytest.approx({"attraction": 0, "repulsion": float(want)}, rel=1e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match="K views"):
        attraction_repulsion(jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="positive"):
        attraction_repulsion(jnp.ones((4, 2, 3)), t_minus=0.0)
