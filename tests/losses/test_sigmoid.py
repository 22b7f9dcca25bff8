"""The sigmoid loss: golden values, and equality with the formula over the whole matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import sigmoid_contrastive
from contrastive_jax.losses import KINDS


@pytest.mark.parametrize(("embeddings", "want"), [(np.zeros((8, 8)), 10.000363), (np.eye(8), 0.693465)])
def test_golden_values(embeddings, want):
    z = jnp.asarray(embeddings, jnp.float32)
    assert sigmoid_contrastive(z, z, scale=10.0, bias=-10.0).value == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("mesh", [None, (8,)])
def test_equals_the_definition(mesh):
    rng = np.random.default_rng(0)
    ids, pictures, present = rng.integers(0, 5, 21), rng.integers(0, 4, 21), rng.random(21) < 0.8
    positive = ids[:, None] == ids[None, :]
    valid = present[:, None] & present[None, :] & (positive | (pictures[:, None] != pictures[None, :]))

    def want(arguments):
        rows, columns, scale, bias = arguments
        sign = jnp.where(positive, 1, -1)
        each = jnp.log1p(jnp.exp(-sign * (scale * rows @ columns.T + bias)))
        return (each * valid).sum() / present.sum()

    def got(arguments):
        rows, columns, scale, bias = arguments
        labels = {
            "positives": jnp.asarray(ids),
            "ignore": jnp.asarray(pictures),
            "present": jnp.asarray(present),
        }
        return sigmoid_contrastive(
            rows, columns, scale=scale, bias=bias, **labels, engine={"block": 4, "mesh": mesh}
        ).value

    mesh = mesh and jax.make_mesh(mesh, ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.enable_x64(True):
        z = rng.normal(size=(2, 21, 6))
        arguments = jnp.asarray(z[0]), jnp.asarray(z[1]), jnp.float64(3.0), jnp.float64(-2.0)
        for a, b in zip(*(jax.tree.leaves(jax.jit(jax.value_and_grad(f))(arguments)) for f in (got, want))):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_scale_and_bias_are_parameters():
    loss = KINDS["sigmoid"](rows="a", columns="b", scale_max=20.0)
    params = loss.init()
    assert jnp.exp(params["log_scale"]) == pytest.approx(10.0)
    assert params["bias"] == -10
    z = jnp.eye(3)
    gradients = jax.grad(lambda p: loss(p, {"a": z, "b": z}, {}).value)(params)
    assert gradients["bias"] != 0
    assert gradients["log_scale"] != 0
    bounded = loss.project({"log_scale": jnp.float32(9.0), "bias": jnp.float32(1.0)})
    assert jnp.exp(bounded["log_scale"]) == pytest.approx(20.0)
    assert bounded["bias"] == 1
