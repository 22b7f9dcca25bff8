"""Barlow Twins, plain and mixed: the formulas, and the cases whose value is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import agree, draw, graded, is_the_same, make_mesh, random_cases

from contrastive_jax import cross_correlation, mixed_barlow


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def standardised(z):
    return (z - z.mean(0)) / z.std(0)


def barlow(a, b, target, off_diagonal):
    C = standardised(a).T @ standardised(b) / len(a)
    weight = jnp.where(jnp.eye(len(C), dtype=bool), 1, off_diagonal)
    return (weight * (C - target) ** 2).sum()


@random_cases
def test_equals_the_definition(seed):
    mesh, n, d, wanted = draw(seed, "barlow", (4, 21), (2, 6), [True, False])
    arguments = (normal(seed, n, d) + 3, 5 * normal(seed + 1, n, d), 0.3)
    T = jnp.asarray(normal(seed + 2, d, d)) if wanted else None

    def definition(a, b, off_diagonal):
        return barlow(a, b, jnp.eye(d) if T is None else T, off_diagonal)

    def loss(a, b, off_diagonal, engine):
        return cross_correlation(a, b, T, off_diagonal=off_diagonal)

    is_the_same(loss, definition, arguments, mesh)


@random_cases
def test_mixed_equals_the_definition(seed):
    """As the paper writes it: correlations of the mixed view against mixtures of correlations."""
    mesh, n, each = draw(seed, "mixed", (4, 21), [True, False])
    rng = np.random.default_rng(seed)
    partner, share = rng.permutation(n), rng.random((n,) if each else ())

    def definition(a, b, mixed, off_diagonal):
        zA, zB, zM = (standardised(z) for z in (a, b, mixed))
        weight = share[:, None] if each else share
        total = barlow(a, b, jnp.eye(3), off_diagonal)
        for z in (zA, zB):
            target = (weight * zA).T @ z / n + ((1 - weight) * zB[partner]).T @ z / n
            total += off_diagonal * 2.0 * ((zM.T @ z / n - target) ** 2).sum()
        return total

    def loss(a, b, mixed, off_diagonal, engine):
        partners, shares = jnp.asarray(partner), jnp.asarray(share)
        return mixed_barlow(a, b, mixed, partners, shares, off_diagonal=off_diagonal, mixed_weight=2.0)

    is_the_same(loss, definition, (*(normal(seed + i, n, 3) for i in range(3)), 0.3), mesh)


def test_identical_views_have_nothing_on_the_diagonal():
    z = jnp.asarray(normal(0, 9, 4), jnp.float32)
    metrics = cross_correlation(z, 7 * z + 2).metrics
    assert float(metrics["on_diagonal"]) == pytest.approx(0, abs=1e-10)
    assert float(metrics["off_diagonal"]) > 0.01


def test_the_order_of_the_examples_means_nothing():
    a, b = jnp.asarray(normal(0, 2, 9, 4), jnp.float32)
    want = float(cross_correlation(a, b).value)
    order = np.random.default_rng(1).permutation(9)
    assert float(cross_correlation(a[order], b[order]).value) == pytest.approx(want, rel=1e-5)


def test_a_constant_dimension_is_zero_and_its_gradient_too():
    a, b = jnp.asarray(normal(0, 2, 9, 4), jnp.float32)
    value, gradient = jax.value_and_grad(lambda a: cross_correlation(a, b).value)(a.at[:, 1].set(3.0))
    assert jnp.isfinite(value)
    assert not gradient[:, 1].any()
    assert gradient[:, 0].any()


class TestMixed:
    def views(self):
        a, b = jnp.asarray(normal(0, 2, 9, 4), jnp.float32)
        return a, b, np.random.default_rng(1).permutation(9)

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_nothing_is_between_at_the_ends(self, share):
        """A linear encoder: the mixed embedding is the mixture of embeddings. Any permutation."""
        a, b, partner = self.views()
        mixed = share * a + (1 - share) * b[partner]
        found = mixed_barlow(a, b, mixed, partner, jnp.float32(share))
        assert float(found.metrics["mixed"]) == pytest.approx(0, abs=1e-9)
        assert float(found.value) == pytest.approx(
            float(cross_correlation(a, b, off_diagonal=0.0078125).value), rel=1e-5
        )

    @pytest.mark.parametrize("each", [False, True], ids=["one share", "a share each"])
    def test_the_order_of_the_examples_means_nothing(self, each):
        """Partners stand elsewhere then, and gradients with their examples."""
        z, rng = jnp.asarray(normal(0, 3, 9, 4), jnp.float32), np.random.default_rng(1)
        partner, order = rng.permutation(9), rng.permutation(9)
        share = rng.random(9).astype(np.float32) if each else np.full(9, 0.3, np.float32)
        moved = np.argsort(order)[partner[order]]

        def loss(a, b, mixed, partner, share):
            return mixed_barlow(a, b, mixed, partner, share if each else share[0], off_diagonal=0.5)

        value, gradients = graded(lambda *z: loss(*z, partner, share), *z)
        got, turned = graded(lambda *z: loss(*z, moved, share[order]), *z[:, order])
        assert got == pytest.approx(float(value), rel=1e-5)
        agree(turned, [g[order] for g in gradients], rtol=1e-4, atol=1e-5)
        elsewhere, _ = graded(lambda *z: loss(*z, partner, share[order]), *z[:, order])
        assert abs(elsewhere - value) > 1e-3  # the partners matter

    def test_standardising_again_leaves_something_between(self):
        a, b, partner = self.views()
        found = mixed_barlow(a, b, (a + b[partner]) / 2, partner, jnp.float32(0.5))
        assert float(found.metrics["mixed"]) > 1e-3

    def test_gradients_go_through_targets(self):
        a, b, partner = self.views()

        def regularizer(a, b):
            whole = mixed_barlow(a, b, jnp.sin(a), partner, 0.3, off_diagonal=1.0, mixed_weight=1e6)
            return whole.value / 1e6

        assert all(g.any(1).all() for g in jax.grad(regularizer, (0, 1))(a, b))


def test_a_sharded_batch_changes_nothing():
    with jax.enable_x64(True):
        a, b, c = jnp.asarray(normal(0, 3, 16, 4))
        partner = jnp.asarray(np.random.default_rng(1).permutation(16))
        run = jax.jit(jax.value_and_grad(lambda *z: mixed_barlow(*z, partner, 0.3).value, (0, 1, 2)))
        want, mesh = run(a, b, c), make_mesh((2, 2, 2))
        with jax.set_mesh(mesh):
            rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
            got = run(*jax.device_put((a, b, c), rows))
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13)


def test_what_is_refused():
    z = jnp.ones((4, 3))
    for wrong, message in (
        (lambda: cross_correlation(z, z[:, :2]), "one shape"),
        (lambda: cross_correlation(z, z, jnp.eye(2)), "target"),
        (lambda: cross_correlation(z, z, off_diagonal=-1.0), "off_diagonal"),
        (lambda: mixed_barlow(z, z, z[:2], jnp.arange(4), 0.5), "one shape"),
        (lambda: mixed_barlow(z, z, z, jnp.arange(3), 0.5), "partner"),
        (lambda: mixed_barlow(z, z, z, jnp.arange(4), jnp.ones(3)), "partner"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
