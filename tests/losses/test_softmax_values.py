"""The softmax loss's options in cases whose value is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import unit, value

from contrastive_jax import softmax_contrastive
from contrastive_jax.losses.margins import with_margin

Z, W = jnp.asarray(unit(0, 2, 6, 4), jnp.float32)


def loss(rows=Z, columns=W, scale=5.0, **keywords):
    """Compiled; arrays that options hold are constants of the program."""
    return value(lambda z: softmax_contrastive(*z, scale=scale, **keywords), (rows, columns))


def test_a_collapsed_batch_beside_a_queue():
    same = jnp.ones((64, 1))
    got = loss(same, same, memory=jnp.ones((160, 1)), symmetric=False)
    assert got == pytest.approx(math.log(64 + 160), abs=3e-6)
    assert got == pytest.approx(5.411646, abs=5e-6)


def test_a_queue_of_orthogonal_vectors():
    """MoCo's row: one positive of cosine 1 and 4,096 negatives of cosine 0 at temperature 0.2."""
    row = jnp.ones((1, 1))
    got = loss(row, row, memory=jnp.zeros((4096, 1)), symmetric=False)
    assert got == pytest.approx(3.353359, abs=1e-5)


def test_a_queue_gets_no_gradient_and_hard_negatives_do():
    def gradient(name, shape):
        further = jnp.asarray(unit(5, *shape), jnp.float32)
        return jax.jit(jax.grad(lambda x: softmax_contrastive(Z, W, scale=5.0, **{name: x}).value))(further)

    assert not gradient("memory", (7, 4)).any()
    assert (gradient("negatives", (6, 2, 4)) != 0).any(-1).all()


def test_further_columns_are_no_rows_of_the_other_direction():
    """The columns' direction does not know the hard negatives, however good they are."""
    both, one = loss(negatives=Z), loss(negatives=Z, symmetric=False)
    assert 2 * both - one == pytest.approx(loss(W, Z, symmetric=False), rel=1e-5)


def test_decoupled_in_closed_form():
    """Orthonormal pairs: three negatives of cosine 0 in the sum, and the positive outside of it."""
    got = loss(jnp.eye(4), jnp.eye(4), scale=2.0, decoupled=True)
    assert got == pytest.approx(math.log(3) - 2, abs=3e-6)


def test_margins_of_nothing_change_nothing():
    assert loss(margin=0.0, angular_margin=0.0) == loss()


@pytest.mark.parametrize("option", [{"margin": 0.3}, {"angular_margin": 0.3}])
def test_a_margin_in_closed_form(option):
    """Positives of cosine 1 - margin, or cos(margin), among three of cosine 0."""
    want = 1 - 0.3 if "margin" in option else math.cos(0.3)
    got = loss(jnp.eye(4), jnp.eye(4), scale=2.0, **option)
    assert got == pytest.approx(math.log(1 + 3 * math.exp(-2 * want)), abs=2e-3)


def test_an_angular_margin_near_pi_is_continuous_and_rises():
    """At theta = pi - m the cosine has turned to -1; beyond it goes on in a straight line."""
    with jax.enable_x64(True):
        dots = jnp.linspace(-1, 1, 4001)[None]
        middle = np.asarray((dots[:, 1:] + dots[:, :-1]) / 2)
        turned, slope = (np.asarray(f) for f in (turn(dots), jax.grad(lambda x: turn(x).sum())(middle)))
    steps = np.diff(turned[0]) * 2000
    smooth = (abs(middle[0] + math.cos(0.5)) > 1e-3) & (middle[0] < 0.98)
    assert (steps > -1e-9).all()
    assert (slope > -1e-9).all()
    np.testing.assert_allclose(steps[smooth], slope[0][smooth], atol=1e-4)
    assert steps.max() < 40  # no jump, though at cosine 1 the slope of an angle is infinite


def turn(dots):
    return with_margin(dots, jnp.ones(dots.shape, bool), 0.0, 0.5)


def test_soft_targets_that_are_one_hot_are_labels():
    labels = jnp.array([0, 1, 1, 2, 0, 2])
    hot = jax.nn.one_hot(labels, 3)
    assert loss(soft=(hot, hot)) == pytest.approx(loss(positives=labels), rel=1e-6)
    assert loss(soft=(7.0 * hot, hot)) == pytest.approx(loss(positives=labels), rel=1e-6)


def test_log_weights_are_copies():
    """A column of log-weight log 3 counts as three, in the rows' direction alone."""
    log_weights = jnp.zeros(6), jnp.zeros(6).at[2].set(math.log(3))
    positives = jnp.arange(6), jnp.array([0, 1, 9, 3, 4, 5])  # column 2 is nobody's positive
    doubled = jnp.concatenate([W, W[2:3], W[2:3]]), jnp.concatenate([positives[1], jnp.array([9, 9])])
    want = loss(columns=doubled[0], positives=(positives[0], doubled[1]), symmetric=False)
    assert loss(log_weights=log_weights, positives=positives, symmetric=False) == pytest.approx(
        want, rel=2e-6
    )


def test_weights_of_nothing_leave_an_example_out_of_the_mean_only():
    weights = jnp.ones(6).at[4].set(0.0)
    positives = jnp.arange(6).at[4].set(99), jnp.arange(6)
    want = loss(positives=positives, symmetric=False)
    assert loss(weights=weights, symmetric=False) == pytest.approx(want, rel=2e-6)


class TestGuide:
    """A guide of cosines: rows 0 and 1 are the same text, so each is the other's false negative."""

    TEXTS = jnp.eye(6).at[1].set(jnp.eye(6)[0])

    def test_a_constant_guide_leaves_nothing_out(self):
        guide = jnp.ones((6, 3)) / 3
        assert loss(guide=(guide, guide)) == pytest.approx(loss(), rel=2e-6)

    def test_closer_pairs_are_left_out(self):
        guide = self.TEXTS, 0.9 * jnp.eye(6)  # row 1 finds column 0 closer (0.9) than its own (0)
        pairs = jnp.array([0, 10, 2, 3, 4, 5]), jnp.array([0, 1, 2, 3, 4, 5])
        others = 5 * loss(positives=pairs, symmetric=False)  # all rows but the second, with all columns
        second = loss(Z[1:2], W[1:], positives=(jnp.array([1]), jnp.arange(1, 6)), symmetric=False)
        assert loss(guide=guide, symmetric=False) == pytest.approx((others + second) / 6, rel=2e-6)

    def test_copies_of_the_positive_need_a_margin(self):
        guide = self.TEXTS, self.TEXTS
        assert loss(guide=guide) == pytest.approx(loss(), rel=2e-6)
        pictures = jnp.array([7, 7, 2, 3, 4, 5])
        assert loss(guide=guide, guide_margin=-0.01) == pytest.approx(loss(ignore=pictures), rel=2e-6)

    def test_an_oracle_of_labels_is_a_mask_of_labels(self):
        labels = jnp.array([0, 1, 1, 2, 0, 2])
        hot = jax.nn.one_hot(labels, 3)
        assert loss(guide=(hot, hot), guide_margin=-0.5) == pytest.approx(loss(ignore=labels), rel=2e-6)

    def test_the_positive_itself_always_stays(self):
        guide = jnp.asarray(unit(3, 6, 3), jnp.float32)
        assert loss(guide=(guide, guide), guide_margin=-5.0) == pytest.approx(0, abs=1e-6)


def test_what_is_refused():
    for wrong, message in (
        ({"margin": -0.1}, "margin"),
        ({"angular_margin": 3.0}, "angular_margin"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"soft": (Z, W), "positives": jnp.arange(6)}, "give one of them"),
        ({"soft": (Z, W[:2])}, "soft"),
        ({"guide": (Z, W[:2])}, "guide"),
        ({"negatives": Z[:, :2]}, "negatives"),
        ({"memory": Z[:, :2]}, "memory"),
        ({"log_weights": jnp.zeros(5)}, "log_weight"),
        ({"weights": jnp.zeros(5)}, "weight"),
    ):
        with pytest.raises(ValueError, match=message):
            softmax_contrastive(Z, W, scale=1.0, **wrong)
