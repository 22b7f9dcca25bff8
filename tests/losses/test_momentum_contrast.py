"""Momentum contrast: the formula, golden values, and what is not filled or of another label."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, unit, value

from contrastive_jax import Memory, momentum_contrast, softmax_contrastive

Z, W = jnp.asarray(unit(0, 2, 6, 4), jnp.float32)
QUEUE = jnp.asarray(unit(2, 9, 4), jnp.float32)


def test_a_row_of_moco():
    """One key of cosine 1 and 4,096 negatives of cosine 0 at temperature 0.2."""
    row = jnp.ones((1, 1))
    got = value(momentum_contrast, row, row, jnp.zeros((4096, 1)), scale=5.0)
    assert got == pytest.approx(3.353359, abs=1e-5)


def test_a_collapsed_batch():
    same = jnp.ones((8, 1))
    got = value(momentum_contrast, same, same, jnp.ones((160, 1)), scale=20.0)
    assert got == pytest.approx(math.log(161), rel=1e-6)


@random_cases
def test_equals_the_definition(seed):
    either = [True, False]
    mesh, n, N, filled, labelled, smooth = draw(seed, "moco", (1, 21), (1, 30), either, either, [0.0, 0.1])
    rng = np.random.default_rng(seed)
    there, of_memory, of_rows = rng.random(N) < 0.7, rng.integers(0, 3, N), rng.integers(0, 3, n)
    seen = np.ones((n, N), bool)
    if filled:
        seen &= there[None]
    if labelled:
        seen &= of_rows[:, None] == of_memory[None]

    def definition(queries, keys, memory, scale):
        keys, memory = jax.lax.stop_gradient((keys, memory))
        logits = scale * jnp.concatenate([(queries * keys).sum(1, keepdims=True), queries @ memory.T], 1)
        valid = np.concatenate([np.ones((n, 1), bool), seen], 1)
        log_p = logits - jax.nn.logsumexp(jnp.where(valid, logits, -1e30), 1, keepdims=True)
        spread = jnp.where(valid, log_p, 0).sum(1) / valid.sum(1)
        return -((1 - smooth) * log_p[:, 0] + smooth * spread).mean()

    def loss(queries, keys, memory, scale, engine):
        if filled:
            memory = jnp.where(there[:, None], memory, jnp.nan)  # may hold anything
        memory = Memory(memory, jnp.asarray(there) if filled else None, jnp.asarray(of_memory))
        labels = jnp.asarray(of_rows) if labelled else None
        return momentum_contrast(
            queries, keys, memory, scale=scale, memory_labels=labels, label_smoothing=smooth, engine=engine
        )

    arguments = unit(seed, n, 4), 2 * unit(seed + 1, n, 4), 2 * unit(seed + 2, N, 4), 4.0
    is_the_same(loss, definition, arguments, mesh, rtol=1e-8)


def test_for_one_example_it_is_the_softmax_loss_with_a_memory():
    got = value(momentum_contrast, Z[:1], W[:1], QUEUE, scale=5.0)
    want = value(softmax_contrastive, Z[:1], W[:1], memory=QUEUE, scale=5.0, symmetric=False)
    assert got == pytest.approx(want, rel=1e-6)


def test_a_key_of_the_batch_is_no_negative():
    others = value(momentum_contrast, Z, W, QUEUE, scale=5.0)
    first = value(momentum_contrast, Z[:1], W[:1], QUEUE, scale=5.0)
    changed = value(momentum_contrast, Z.at[1:].set(Z[0]), W.at[1:].set(W[0]), QUEUE, scale=5.0)
    assert changed == pytest.approx(first, rel=1e-6)
    assert abs(others - first) > 1e-3


def test_an_empty_memory_is_zero():
    memory = Memory(jnp.full((9, 4), jnp.nan), jnp.zeros(9, bool))
    run = jax.jit(jax.value_and_grad(lambda z: momentum_contrast(z, W, memory, scale=5.0).value))
    found, gradient = run(Z)
    assert found == 0
    assert not gradient.any()


def test_keys_and_memory_have_no_gradient():
    def loss(q, k, m):
        return momentum_contrast(q, k, m, scale=5.0, label_smoothing=0.1).value

    of_queries, *others = jax.jit(jax.grad(loss, (0, 1, 2)))(Z, W, QUEUE)
    assert of_queries.any(1).all()
    assert not any(g.any() for g in others)


def test_the_products_with_a_memory_are_not_all_kept():
    """A queue of 2^16 against 1,024 queries, in blocks."""
    shapes = (jax.ShapeDtypeStruct(s, np.float32) for s in ((1024, 8), (1024, 8), (2**16, 8)))

    def loss(*z):
        return momentum_contrast(*z, scale=5.0, engine={"block": 256, "keep": 0}).value

    memory = jax.jit(jax.grad(loss)).lower(*shapes).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**24 < 1024 * 2**16 * 4 / 15


def test_what_is_refused():
    for wrong, message in (
        ({"keys": W[:, :2]}, "give two of"),
        ({"memory": QUEUE[:, :2]}, "give two of"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"memory_labels": jnp.zeros(6, int)}, "memory with labels"),
        ({"memory": Memory(QUEUE, jnp.ones(3, bool))}, "memory.filled"),
        ({"memory": Memory(QUEUE, labels=jnp.zeros(9, int)), "memory_labels": jnp.zeros(5, int)}, "beside 6"),
    ):
        with pytest.raises(ValueError, match=message):
            momentum_contrast(**{"queries": Z, "keys": W, "memory": QUEUE, "scale": 1.0, **wrong})
