"""Heads with batch norms: their definition, running statistics, sides that take turns, sharded batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive_jax.encoders.heads import MLP


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def made(norm="batch", **keywords):
    """A head in float64, its parameters, statistics unlike those at the start, and a batch."""
    head = MLP(features=3, hidden=5, norm=norm, last_norm=True, activation="relu", **keywords)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(16, 4)) + 2)
    params, running = (
        jax.tree.map(lambda p: jnp.asarray(p + 0.1 * rng.random(p.shape), jnp.float64), tree)
        for tree in (head.init(jax.random.key(0), x), head.statistics(x))
    )
    return head, params, running, x


def by_definition(params, x, momentum, running):
    new = {}
    for name in ("hidden_0", "out"):
        x = x @ params[name]["kernel"]
        mean, variance = x.mean(0), x.var(0)
        for moment, value in (("mean", mean), ("variance", variance)):
            new[f"{name}_{moment}"] = momentum * running[f"{name}_{moment}"] + (1 - momentum) * value
        x = (x - mean) / jnp.sqrt(variance + 1e-5)
        if name == "hidden_0":
            x = jax.nn.relu(x * params["hidden_0_norm"]["scale"] + params["hidden_0_norm"]["bias"])
    return x, new


def close(got, want, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("norm", ["batch", "asymmetric_batch"])
def test_training_is_the_definition_and_moves_the_running_moments(norm):
    head, params, running, x = made(norm, momentum=0.7)
    got = head.apply(params, x, train=True, key=None, statistics=running)
    close(got, by_definition(params, x, 0.7, running))


def test_evaluation_repeats_the_last_batch_without_momentum():
    head, params, running, x = made(momentum=0.0)
    z, after = head.apply(params, x, train=True, key=None, statistics=running)
    again, still = head.apply(params, x, train=False, key=None, statistics=after)
    close(again, z)
    close(still, after, 0)


def test_statistics_that_are_missing_are_those_at_the_start():
    head, params, _, x = made()
    whole = head.apply(params, x, train=False, key=None, statistics=head.statistics(x))
    close(head.apply(params, x, train=False, key=None), whole, 0)


def test_a_last_norm_has_no_scale_and_no_matrix_before_a_norm_a_bias():
    _, params, _, _ = made()
    assert jax.tree.map(jnp.shape, params) == {
        "hidden_0": {"kernel": (4, 5)},
        "hidden_0_norm": {"scale": (5,), "bias": (5,)},
        "out": {"kernel": (5, 3)},
    }


class TestTurns:
    def test_the_side_without_a_turn_takes_the_running_moments_and_leaves_them(self):
        head, params, running, x = made("asymmetric_batch")

        def run(turn):
            return head.apply(params, x, train=True, key=None, statistics=running, turn=turn)

        waiting = head.apply(params, x, train=False, key=None, statistics=running)
        for turn, want in ((False, waiting), (True, by_definition(params, x, 0.9, running))):
            close(run(turn), want)
            close(jax.jit(run)(turn), want)
        close(waiting[1], running, 0)

    @pytest.mark.parametrize(("train", "turn"), [(False, True), (True, False)])
    def test_no_row_knows_of_another(self, train, turn):
        """Exactly, bit for bit, in values and gradients."""
        head, params, running, x = made("asymmetric_batch")

        @jax.jit
        def run(x, turn):
            def each(x):
                return head.apply(params, x, train=train, key=None, statistics=running, turn=turn)[0]

            z, pull = jax.vjp(each, x)
            return z, pull(jnp.zeros_like(z).at[2].set(1.0))[0]

        others = (9 * jnp.flip(x, 0)).at[2].set(x[2])
        (z, gradient), (other, other_gradient) = run(x, turn), run(others, turn)
        np.testing.assert_array_equal(z[2], other[2])
        np.testing.assert_array_equal(gradient, other_gradient)
        assert not gradient.at[2].set(0).any()

    def test_a_norm_without_sides_ignores_turns(self):
        head, params, running, x = made()
        keywords = {"train": True, "key": None, "statistics": running}
        close(*(head.apply(params, x, **keywords, turn=turn) for turn in (False, True)), 0)


@pytest.mark.parametrize("shape", [(8,), (2, 2, 2)])
@pytest.mark.parametrize("norm", ["batch", "asymmetric_batch"])
def test_a_sharded_batch_changes_nothing(norm, shape):
    names = ("data", "fsdp", "tensor")[: len(shape)]
    mesh = jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))
    head, params, running, x = made(norm)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(16, 3)))

    @jax.jit
    def run(params, x, running):
        def value(params, x):
            z, after = head.apply(params, x, train=True, key=None, statistics=running)
            return (jnp.sin(z) * weights).sum(), after

        return jax.value_and_grad(value, (0, 1), has_aux=True)(params, x)

    want = run(params, x, running)
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec(tuple(n for n in names if n != "tensor")))
        close(run(params, jax.device_put(x, rows), running), want)


def test_no_gradient_goes_through_the_statistics():
    head, params, running, x = made()

    def total(x):
        after = head.apply(params, x, train=True, key=None, statistics=running)[1]
        return sum(s.sum() for s in after.values())

    assert not jax.grad(total)(x).any()


def test_a_batch_of_one_is_finite():
    head, params, running, x = made()

    def total(x):
        return head.apply(params, x, train=True, key=None, statistics=running)[0].sum()

    assert all(jnp.isfinite(y).all() for y in jax.value_and_grad(total)(x[:1]))
