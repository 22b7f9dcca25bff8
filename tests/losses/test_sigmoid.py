"""The sigmoid loss: golden values, and equality with the formula over the whole matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, same, unit, value

from contrastive_jax import sigmoid_contrastive
from contrastive_jax.losses import KINDS


@pytest.mark.parametrize(("embeddings", "want"), [(np.zeros((8, 8)), 10.000363), (np.eye(8), 0.693465)])
def test_golden_values(embeddings, want):
    z = jnp.asarray(embeddings, jnp.float32)
    assert value(sigmoid_contrastive, z, z, scale=10.0, bias=-10.0) == pytest.approx(want, abs=1e-5)


@random_cases
def test_equals_the_definition(seed):
    either = [True, False]
    mesh, n, labelled, ignoring, absent = draw(seed, "sigmoid", (1, 22), either, either, either)
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 5, n) if labelled else np.arange(n)
    pictures, present = rng.integers(0, 4, n), rng.random(n) < (0.8 if absent else 2)
    valid = present[:, None] & present[None, :]
    if ignoring:
        valid &= same(ids, ids) | ~same(pictures, pictures)

    def definition(rows, columns, scale, bias):
        sign = jnp.where(same(ids, ids), 1, -1)
        each = jnp.log1p(jnp.exp(-sign * (scale * rows @ columns.T + bias)))
        return (each * valid).sum() / max(present.sum(), 1)

    def loss(rows, columns, scale, bias, engine):
        return sigmoid_contrastive(
            rows,
            columns,
            scale=scale,
            bias=bias,
            positives=jnp.asarray(ids) if labelled else None,
            ignore=jnp.asarray(pictures) if ignoring else None,
            present=jnp.asarray(present) if absent else None,
            engine=engine,
        )

    is_the_same(loss, definition, (unit(seed, n, 6), unit(seed + 1, n, 6), 3.0, -2.0), mesh)


@pytest.mark.parametrize("communication", ["gather", "ring"])
def test_without_labels_on_a_mesh(communication):
    """As many examples as devices hold evenly, and no mask: every pair takes part."""
    z = unit(0, 2, 16, 6)

    def definition(rows, columns, scale, bias):
        sign = 2 * jnp.eye(16) - 1
        return jnp.log1p(jnp.exp(-sign * (scale * rows @ columns.T + bias))).sum() / 16

    def loss(rows, columns, scale, bias, engine):
        engine = {**engine, "communication": communication}
        return sigmoid_contrastive(rows, columns, scale=scale, bias=bias, engine=engine)

    is_the_same(loss, definition, (*z, 3.0, -2.0), (2, 2), block=2)


def test_scale_and_bias_are_parameters():
    loss = KINDS["sigmoid"](rows="a", columns="b", scale_max=20.0)
    params = loss.init()
    assert jnp.exp(params["log_scale"]) == pytest.approx(10.0)
    assert params["bias"] == -10
    z = jnp.eye(3)
    gradients = jax.jit(jax.grad(lambda p: loss(p, {"a": z, "b": z}, {}).value))(params)
    assert gradients["bias"] != 0
    assert gradients["log_scale"] != 0
    bounded = loss.project({"log_scale": jnp.float32(9.0), "bias": jnp.float32(1.0)})
    assert jnp.exp(bounded["log_scale"]) == pytest.approx(20.0)
    assert bounded["bias"] == 1
