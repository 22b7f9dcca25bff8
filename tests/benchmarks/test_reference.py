"""The float64 formulas that gradient errors are measured against, and what they notice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.benchmarks import reference
from contrastive_jax.benchmarks.problem import Problem
from contrastive_jax.benchmarks.programs import dense


def by_autodiff(value, problem, scale=1.0):
    with jax.enable_x64(True):
        arguments = [jnp.asarray(z, jnp.float64) * scale for z in problem.embeddings()]
        arguments += [jnp.float64(x) for x in problem.scalars]
        found = jax.value_and_grad(value, argnums=tuple(range(len(arguments))))(*arguments)
        value, gradients = jax.device_get(found)
    return reference.Gradients(value, *gradients)


def exactly_dense(problem):
    """`programs.dense` with products in the dtype of the embeddings."""
    if problem.loss == "softmax":

        def value(q, k, scale):
            logits = scale * q @ k.T
            both = jax.nn.log_softmax(logits, 0) + jax.nn.log_softmax(logits, 1)
            return -jnp.diag(both).mean() / 2
    else:

        def value(q, k, scale, bias):
            logits = scale * q @ k.T + bias
            return jax.nn.softplus(jnp.where(jnp.eye(len(q)) > 0, -logits, logits)).sum() / len(q)

    return value


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("batch", "scale"), [(5, 100.0), (1030, 14.3)])
def test_the_formulas_are_the_derivatives(loss, batch, scale):
    problem = Problem(batch, 7, loss, scale=scale)
    want = by_autodiff(exactly_dense(problem), problem)
    assert max(reference.errors(problem.right(), want).values()) < 1e-10


def test_unit_length_is_differentiated_too():
    problem = Problem(40, 6)

    def normalised(q, k, scale):
        units = (z / jnp.linalg.norm(z, axis=1, keepdims=True) for z in (q, k))
        return exactly_dense(problem)(*units, scale)

    want = by_autodiff(normalised, problem, scale=3.0)
    rows, columns = (3 * z.astype(np.float64) for z in problem.embeddings())
    got = reference.of_unit_length(reference.softmax, rows, columns, *problem.scalars)
    assert max(reference.errors(got, want).values()) < 1e-10


def test_a_wrong_gradient_is_noticed():
    problem = Problem(64, 16)
    right = problem.right()
    only_one_way = by_autodiff(lambda q, k, s: -jnp.diag(jax.nn.log_softmax(s * q @ k.T)).mean(), problem)
    assert reference.errors(only_one_way, right)["gradient_error"] > 0.05
    assert reference.errors(by_autodiff(exactly_dense(problem), problem), right)["gradient_error"] < 1e-10
    broken = right._replace(columns=np.full_like(right.columns, np.nan))
    assert reference.errors(broken, right)["gradient_error"] == float("inf")
    wrong_sign = reference.errors(right._replace(scale=-right.scale), right)
    assert (wrong_sign["gradient_error"], wrong_sign["scale_gradient_error"]) == (0, pytest.approx(2))


@pytest.mark.parametrize("scale", [14.3, 50.0, 100.0])
def test_the_negatives_are_hard_at_every_scale(scale):
    problem = Problem(512, 64, scale=scale)
    rows, columns = problem.embeddings()
    for z in (rows, columns):
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)
    assert problem.right().value > 0.1
    assert np.array_equal(problem.embeddings()[0], rows)
    assert np.array_equal(problem.at_most(100).embeddings()[1], columns[:100])


def test_bfloat16_holds_the_data_exactly():
    problem = Problem(32, 16, dtype="bfloat16")
    rows, _ = problem.embeddings()
    assert np.array_equal(rows, rows.astype(jnp.bfloat16).astype(np.float32))
    assert not np.array_equal(rows, Problem(32, 16).embeddings()[0])


def test_work():
    assert Problem(10, 3).flops() == 8 * 300
    assert Problem(10, 3).flops(kept=True) == Problem(10, 3, "sigmoid").flops() == 6 * 300
    assert dense(Problem(10, 3, "sigmoid")).__name__ == "sigmoid"
