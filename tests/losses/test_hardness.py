"""Hard and simple contrastive losses: the formulas, closed gradients, and the ordinary loss at the end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import agree, draw, graded, is_the_same, random_cases, same, table_cross_entropy, unit, value

from contrastive_jax import hard_contrastive, simple_contrastive, softmax_contrastive

Z, W = jnp.asarray(unit(0, 2, 9, 4), jnp.float32)


class Problem:
    """Random labels, and which negatives stay, found by sorting whole rows."""

    def __init__(self, seed, name):
        either = [True, False]
        drawn = draw(seed, name, (2, 21), [0.01, 0.3, 0.7, 1.0], either, either, either)
        self.mesh, self.n, self.fraction, labelled, ignoring, self.symmetric = drawn
        rng = np.random.default_rng(seed)
        ids = rng.integers(0, 5, self.n) if labelled else np.arange(self.n)
        pictures = rng.integers(0, 5, self.n)
        self.targets = same(ids, ids)
        self.negatives = ~self.targets & (~same(pictures, pictures) if ignoring else True)
        self.keywords = {
            "fraction": self.fraction,
            "symmetric": self.symmetric,
            "positives": jnp.asarray(ids) if labelled else None,
            "ignore": jnp.asarray(pictures) if ignoring else None,
        }
        self.pair = unit(seed, self.n, 4), unit(seed + 1, self.n, 4)

    def stays(self, dots, negatives):
        """The hardest of each row, by sorting."""
        dots, kept = np.asarray(dots), np.zeros_like(negatives)
        for i, own in enumerate(negatives):
            k = max(1, round(self.fraction * own.sum()))
            order = sorted(np.flatnonzero(own), key=lambda j: -dots[i, j])
            kept[i, order[:k]] = True
        return kept

    def directions(self, dots):
        """(dots, targets, hard negatives) of the rows, and if symmetric of the columns."""
        whole = self.pair[0] @ self.pair[1].T
        yield dots, self.targets, self.stays(whole, self.negatives)
        if self.symmetric:
            yield dots.T, self.targets.T, self.stays(whole.T, self.negatives.T)


@random_cases
def test_hard_equals_the_definition(seed):
    problem = Problem(seed, "hard")

    def definition(rows, columns, scale):
        found = [
            table_cross_entropy(scale * dots, targets, targets | hard)
            for dots, targets, hard in problem.directions(rows @ columns.T)
        ]
        return sum(found) / len(found)

    def loss(rows, columns, scale, engine):
        return hard_contrastive(rows, columns, scale=scale, engine=engine, **problem.keywords)

    is_the_same(loss, definition, (*problem.pair, 4.0), problem.mesh, rtol=1e-8, block=(3, 5))


@random_cases
def test_simple_equals_the_definition(seed):
    problem = Problem(seed, "simple")

    def definition(rows, columns, repulsion):
        found = []
        for dots, targets, hard in problem.directions(rows @ columns.T):
            push = (dots * hard).sum(1) / np.maximum(hard.sum(1), 1)
            found.append((repulsion * push - (dots * targets).sum(1) / targets.sum(1)).mean())
        return sum(found) / len(found)

    def loss(rows, columns, repulsion, engine):
        return simple_contrastive(rows, columns, repulsion=repulsion, engine=engine, **problem.keywords)

    is_the_same(loss, definition, (*problem.pair, 0.6), problem.mesh, rtol=1e-8, block=(3, 5))


def test_all_negatives_are_the_ordinary_loss():
    def run(loss, **keywords):
        return jax.jit(jax.value_and_grad(lambda z: loss(*z, scale=5.0, **keywords).value))((Z, W))

    got, want = run(hard_contrastive, fraction=1.0), run(softmax_contrastive)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


class TestGradients:
    """With respect to the similarities themselves: rows against an orthonormal basis of columns."""

    S = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (9, 9)), jnp.float32)

    def of(self, loss, **keywords):
        eye = jnp.eye(9)
        return 9 * jax.jit(jax.grad(lambda s: loss(s, eye, symmetric=False, **keywords).value))(self.S)

    @pytest.mark.parametrize("fraction", [0.3, 1.0])
    def test_of_the_hard_loss(self, fraction):
        got, tau = self.of(hard_contrastive, scale=1 / 0.3, fraction=fraction), 0.3
        off = jnp.where(jnp.eye(9, dtype=bool), -jnp.inf, self.S)
        least = jnp.sort(off, axis=1)[:, -max(1, round(fraction * 8))][:, None]
        kept = jnp.where((off >= least) | jnp.eye(9, dtype=bool), self.S / tau, -jnp.inf)
        P = jax.nn.softmax(kept, axis=1)
        np.testing.assert_allclose(got, (P - jnp.eye(9)) / tau, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.sum(1), 0, atol=1e-5)  # negatives together push as the positive pulls

    def test_of_the_simple_loss(self):
        got = self.of(simple_contrastive, repulsion=0.6)
        want = jnp.where(jnp.eye(9, dtype=bool), -1, 0.6 / 8)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)

    def test_a_high_temperature_makes_the_ordinary_loss_simple(self):
        """All negatives get the same share of what the positive gets."""
        got = self.of(softmax_contrastive, scale=1e-3) / 1e-3
        want = jnp.where(jnp.eye(9, dtype=bool), -8 / 9, 1 / 9)
        np.testing.assert_allclose(got, want, atol=2e-3)

    def test_penalties_spread_with_the_temperature(self):
        """The entropy of the negatives' shares of the gradient never falls as the temperature rises."""
        entropies = []
        for tau in (0.05, 0.1, 0.3, 1.0, 10.0):
            shares = jnp.where(jnp.eye(9, dtype=bool), 0, self.of(softmax_contrastive, scale=1 / tau))
            r = shares / shares.sum(1, keepdims=True)
            entropies.append(-jnp.sum(jnp.where(r > 0, r * jnp.log(jnp.where(r > 0, r, 1)), 0), 1))
        assert (jnp.diff(jnp.stack(entropies), axis=0) > -1e-6).all()


def test_at_no_temperature_only_the_hardest_negative_counts():
    """The softmax becomes a triplet loss without a margin."""
    tau = 0.001  # the nearest rival of a hardest negative is 0.018 behind it

    def triplet(rows, columns):
        dots = rows @ columns.T
        hardest = jnp.where(jnp.eye(9, dtype=bool), -jnp.inf, dots).max(1)
        return jnp.maximum(hardest - jnp.diag(dots), 0).mean()

    value, gradients = graded(softmax_contrastive, Z, W, scale=1 / tau, symmetric=False)
    want, wanted = jax.value_and_grad(triplet, (0, 1))(Z, W)
    assert want > 0.1
    assert tau * value == pytest.approx(float(want), abs=1e-5)
    agree([tau * g for g in gradients], wanted, atol=1e-5)


def test_ties_stay_together():
    """A collapsed batch: no negative is harder than another, so all of them stay."""
    same_everywhere = jnp.ones((8, 1))
    got = value(hard_contrastive, same_everywhere, same_everywhere, scale=3.0, fraction=0.3)
    assert got == pytest.approx(np.log(8), rel=1e-5)
    got = value(simple_contrastive, same_everywhere, same_everywhere, fraction=0.3)
    assert got == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_refused_fractions(fraction):
    for loss in (
        lambda **k: hard_contrastive(Z, W, scale=1.0, **k),
        lambda **k: simple_contrastive(Z, W, **k),
    ):
        with pytest.raises(ValueError, match="fraction"):
            loss(fraction=fraction)
