"""Alignment and uniformity: the formula over the whole matrix, and sets whose value is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, unit

from contrastive_jax import alignment_uniformity


@random_cases
def test_equals_the_definition(seed):
    mesh, n, alpha = draw(seed, "uniformity", (2, 21), [1.0, 2.0, 3.0])
    others = ~np.eye(n, dtype=bool)

    def uniformity(z, t):
        squares = ((z[:, None] - z[None]) ** 2).sum(-1)
        return jnp.log(jnp.where(others, jnp.exp(-t * squares), 0).sum() / (n * (n - 1)))

    def definition(a, b, t):
        alignment = (((a - b) ** 2).sum(1) ** (alpha / 2)).mean()
        return 0.7 * alignment + 0.4 * (uniformity(a, t) + uniformity(b, t)) / 2

    def loss(a, b, t, engine):
        return alignment_uniformity(a, b, alpha=alpha, t=t, alignment=0.7, uniformity=0.4, engine=engine)

    is_the_same(loss, definition, (unit(seed, n, 4), unit(seed + 1, n, 4), 2.0), mesh, rtol=1e-8)


@pytest.mark.parametrize(("z", "want"), [(np.eye(6), -4.0), (np.ones((6, 1)), 0.0)])
def test_known_sets(z, want):
    """Orthonormal: all squared distances are 2. Collapsed: all are 0."""
    z = jnp.asarray(z, jnp.float32)
    metrics = jax.jit(lambda: alignment_uniformity(z, z, t=2.0).metrics)()
    assert float(metrics["uniformity"]) == pytest.approx(want, abs=2e-6)
    assert float(metrics["alignment"]) == 0


def test_views_that_meet_have_a_finite_gradient():
    z = jnp.asarray(unit(0, 5, 4), jnp.float32)
    gradient = jax.jit(jax.grad(lambda a: alignment_uniformity(a, z, alpha=1.0, uniformity=0.0).value))(z)
    assert not gradient.any()


def test_what_is_refused():
    z = jnp.ones((4, 3))
    for wrong, message in (({"alpha": 0.0}, "alpha"), ({"t": -1.0}, "t=")):
        with pytest.raises(ValueError, match=message):
            alignment_uniformity(z, z, **wrong)
