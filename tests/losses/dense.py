"""Losses by their definition, on the whole matrix, and the test that a loss is the same thing.

Nothing here uses the package's code: each is the formula of the paper in the plainest form.
"""

import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType

MESHES = [(1,), (8,), (1, 8), (8, 1), (2, 4), (4, 2), (2, 2, 2), (1, 4, 2), (2, 1, 4), (1, 1, 8)]


def random_cases(test):
    """A property test: each call gets a seed, from which `draw` makes everything else.

    Few calls, for each compiles a program, and no shrinking, which would take minutes. (The first example
    that hypothesis makes is the simplest: of shapes and meshes themselves that would test next to nothing.)
    """
    many = max(settings.default.max_examples // 2, 1)
    few = settings(max_examples=many, phases=(Phase.explicit, Phase.generate))
    return few(given(seed=st.integers(0, 9999))(test))


def draw(seed: int, name: str, *choices):
    """(a mesh's shape, a value of each choice): of a list one of it, of a pair (low, high) a number."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = [c[rng.integers(len(c))] if isinstance(c, list) else int(rng.integers(*c)) for c in choices]
    return MESHES[rng.integers(len(MESHES))], *values


def make_mesh(shape):
    names = ("data", "fsdp", "tensor")[: len(shape)]
    devices = jax.devices()[: math.prod(shape)]
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape), devices=devices)


def unit(seed: int, *shape: int):
    """Random float64 vectors of unit length."""
    z = np.random.default_rng(seed).normal(size=shape)
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def is_the_same(loss, definition, arguments, shape=(1,), rtol=1e-9, block=(3, 5)):
    """Value and all gradients of loss(*arguments, engine) on a mesh are those of definition(*arguments)."""

    def run(function):
        differentiated = jax.jit(jax.value_and_grad(lambda arguments: function(*arguments)))
        return jax.tree.map(np.asarray, differentiated(arguments))

    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.float64, arguments)
        want = run(definition)
        with jax.set_mesh(make_mesh(shape)):
            got = run(lambda *arguments: loss(*arguments, engine={"block": block}).value)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(want[1]))
    np.testing.assert_allclose(got[0], want[0], rtol=rtol, atol=1e-12)
    for a, b in zip(jax.tree.leaves(got[1]), jax.tree.leaves(want[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(largest, 1e-3))


def table_cross_entropy(logits, targets, valid=None, denominator=None, smoothing=0.0, weights=None):
    """Mean over rows of -sum_c T_ic log softmax_c(l_i), rows of T normalised; rows without T are skipped."""
    valid = jnp.ones(logits.shape, bool) if valid is None else valid
    below = valid if denominator is None else valid & denominator
    targets = jnp.where(valid, targets, 0)
    has = (targets.sum(1) > 0) & below.any(1)
    lse = jax.nn.logsumexp(jnp.where(below, logits, -1e30), axis=1)
    targets = targets / jnp.where(has, targets.sum(1), 1)[:, None]
    smooth = (1 - smoothing) * targets + smoothing * valid / jnp.maximum(valid.sum(1), 1)[:, None]
    each = jnp.where(has, lse - (smooth * logits).sum(1), 0)
    weights = has * (jnp.ones(len(logits)) if weights is None else weights)
    return (weights * each).sum() / jnp.where(weights.sum() == 0, 1, weights.sum())


def both_ways(logits, targets, valid=None, denominator=None, **keywords):
    """The mean of `table_cross_entropy` of rows and of columns."""
    turned = (None if x is None else x.T for x in (logits, targets, valid, denominator))
    return (
        table_cross_entropy(logits, targets, valid, denominator, **keywords)
        + table_cross_entropy(*turned, **keywords)
    ) / 2


def same(a, b):
    return np.asarray(a)[:, None] == np.asarray(b)[None, :]


def value(loss, *arguments, **keywords) -> float:
    """loss(*arguments).value, compiled at once: operation by operation takes ten times as long."""
    return float(jax.jit(lambda arguments: loss(*arguments, **keywords).value)(arguments))


def graded(loss, *arguments, **keywords):
    """(value, gradients of all arguments) of loss(*arguments).value, compiled at once."""
    return jax.jit(jax.value_and_grad(lambda arguments: loss(*arguments, **keywords).value))(arguments)


def agree(got, want, rtol=1e-5, atol=1e-6):
    """Two trees hold the same numbers, of `graded` for one."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
