"""Symile: all combinations and permuted ones against their definition, CLIP for two, and memory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, unit, value

from contrastive_jax import softmax_contrastive, symile


@random_cases
def test_all_combinations_of_three(seed):
    mesh, n = draw(seed, "all", (1, 10))

    def definition(x, a, b, scale):
        every, i = scale * jnp.einsum("id,jd,kd->ijk", x, a, b), jnp.arange(n)
        lse = [jax.nn.logsumexp(jnp.moveaxis(every, m, 0).reshape(n, -1), axis=1) for m in range(3)]
        return jnp.mean(jnp.stack(lse) - every[i, i, i])

    def loss(x, a, b, scale, engine):
        return symile([x, a, b], scale=scale, negatives="all", engine=engine)

    is_the_same(loss, definition, (*unit(seed, 3, n, 4), 6.0), mesh)


@pytest.mark.parametrize("M", [3, *(pytest.param(m, marks=pytest.mark.slow) for m in (2, 4))])
@random_cases
def test_permuted_combinations(M, seed):
    """For each anchor B columns: the others in orders of their own, the right combination at its place."""
    mesh, n = draw(seed, f"permuted {M}", (1, 15))
    key = jax.random.key(seed)

    def definition(*arguments):
        *z, scale = arguments
        terms = []
        for m, anchor in enumerate(z):
            others = [x for k, x in enumerate(z) if k != m]
            keys = [jax.random.fold_in(jax.random.fold_in(key, m), k) for k in range(M - 1)]
            wrong = right = jnp.ones_like(anchor)
            for x, own in zip(others, keys):
                wrong, right = wrong * x[jax.random.permutation(own, n)], right * x
            logits = scale * jnp.where(jnp.eye(n, dtype=bool), anchor @ right.T, anchor @ wrong.T)
            terms.append(jax.nn.logsumexp(logits, axis=1) - jnp.diag(logits))
        return jnp.mean(jnp.stack(terms))

    def loss(*arguments, engine):
        *z, scale = arguments
        return symile(z, scale=scale, key=key, engine=engine)

    is_the_same(loss, definition, (*unit(seed, M, n, 4), 6.0), mesh)


def test_two_with_all_combinations_are_clip():
    a, b = jnp.asarray(unit(0, 2, 9, 4), jnp.float32)
    got = jax.jit(jax.value_and_grad(lambda a: symile([a, b], scale=7.0, negatives="all").value))(a)
    want = jax.jit(jax.value_and_grad(lambda a: softmax_contrastive(a, b, scale=7.0).value))(a)
    for x, y in zip(got, want):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_both_have_the_same_positive_logits():
    z = jnp.asarray(unit(0, 3, 6, 4), jnp.float32)
    want = 3.0 * float((z[0] * z[1] * z[2]).sum(1).mean())
    for keywords in ({"negatives": "all"}, {"key": jax.random.key(0)}):
        metrics = jax.jit(lambda z, k=keywords: symile(list(z), scale=3.0, **k).metrics)(z)
        assert float(metrics["positive_logit"]) == pytest.approx(want, rel=1e-5)


def test_what_only_three_together_tell():
    """c = a xor b, as signs: half of all combinations are as good as the right one, half as bad as can be."""
    a, b = (np.arange(16) % 2 * 2 - 1, np.arange(16) // 2 % 2 * 2 - 1)
    z = [jnp.asarray(x[:, None], jnp.float32) for x in (a, b, a * b)]
    want = math.log(128 * (1 + math.exp(-2 * 3.0)))
    assert value(symile, z, scale=3.0, negatives="all") == pytest.approx(want, rel=1e-6)


def test_nothing_of_size_rows_times_columns_is_kept():
    """Every roll is a sweep of its own, forward and backward, and what is kept is a few [B] and [B, d]."""
    B, d = 4096, 8

    def loss(*z):
        return symile(z, scale=5.0, negatives="all", engine={"block": 256, "keep": 0}).value

    shapes = [jax.ShapeDtypeStruct((B, d), np.float32)] * 3
    memory = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*shapes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 8 * 2**20 < B * B * 4 / 7


def test_what_is_refused():
    z = jnp.ones((4, 3))
    for wrong, message in (
        ({"embeddings": [z]}, "two or more"),
        ({"embeddings": [z, z[:2]]}, "one shape"),
        ({"embeddings": [z, z]}, "pass key="),
        ({"embeddings": [z] * 4, "negatives": "all"}, "2 or 3"),
        ({"embeddings": [z, z], "negatives": "some"}, "some"),
    ):
        with pytest.raises(ValueError, match=message):
            symile(**wrong, scale=1.0)
