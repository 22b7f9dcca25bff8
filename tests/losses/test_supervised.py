"""SupCon and NT-Xent: golden values, each other, and the formula over the whole matrix."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, same, table_cross_entropy, unit, value

from contrastive_jax import nt_xent, supervised_contrastive


def test_two_antipodal_classes():
    z = jnp.repeat(jnp.array([[1.0, 0.0], [-1.0, 0.0]]), 4, axis=0)
    got = value(supervised_contrastive, z, jnp.repeat(jnp.arange(2), 4), scale=1.0)
    assert got == pytest.approx(math.log(3 + 4 * math.exp(-2)), abs=2e-6)
    assert got == pytest.approx(1.264506, abs=2e-6)


@pytest.mark.parametrize("z", [unit(0, 5, 3), unit(1, 5, 2, 3)])
def test_unique_labels_have_only_their_own_views(z):
    """One view: no positive at all, so 0. Two views: NT-Xent."""
    z = jnp.asarray(z, jnp.float32)
    got = value(supervised_contrastive, z, jnp.arange(5) * 7, scale=4.0)
    want = value(nt_xent, z[:, 0], z[:, 1], scale=4.0) if z.ndim == 3 else 0
    assert got == pytest.approx(want, rel=1e-6)


@random_cases
def test_supervised_equals_the_definition(seed):
    mesh, n, views = draw(seed, "supervised", (2, 21), [None, 1, 3])
    labels = np.random.default_rng(seed).integers(0, max(n // 2, 1), n)
    z = unit(seed, n, 4) if views is None else unit(seed, n, views, 4)
    each = np.repeat(labels, views or 1)
    others = ~np.eye(len(each), dtype=bool)

    def definition(z, scale):
        z = z.reshape(-1, 4)
        return table_cross_entropy(scale * z @ z.T, same(each, each) & others, others)

    def loss(z, scale, engine):
        return supervised_contrastive(z, jnp.asarray(labels), scale=scale, engine=engine)

    is_the_same(loss, definition, (z, 5.0), mesh)


@random_cases
def test_nt_xent_equals_the_definition(seed):
    mesh, n = draw(seed, "nt_xent", (1, 21))

    def definition(a, b, scale):
        z = jnp.concatenate([a, b])
        twins = np.roll(np.eye(2 * n, dtype=bool), n, axis=1)
        return table_cross_entropy(scale * z @ z.T, twins, ~np.eye(2 * n, dtype=bool))

    arguments = unit(seed, n, 4), unit(seed + 1, n, 4), 5.0
    is_the_same(lambda a, b, s, engine: nt_xent(a, b, scale=s, engine=engine), definition, arguments, mesh)


def test_a_view_is_not_its_own_negative():
    """Two views alike, everything else orthogonal: with itself in the sum it would be log(2 + ...)."""
    z = jnp.eye(4)
    want = math.log(math.e + 6) - 1
    assert value(nt_xent, z, z, scale=1.0) == pytest.approx(want, rel=1e-5)
