"""The kernels, interpreted, against the whole matrix in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.similarity import Dot, Scores, pallas
from contrastive_jax.similarity.pallas_gpu import Config
from contrastive_jax.similarity.pallas_sweep import Kernels
from contrastive_jax.similarity.scores import Needs, Problem
from contrastive_jax.similarity.steps import SideCotangents
from contrastive_jax.similarity.tiles import Side, Split
from tests.similarity.meshes import relative_error

SMALL = Kernels(Config(rows=16, columns=32, depth=16, group=2), interpret=True, rows=32, matrix_rows=48)
SHIFT = -40.0


def scaled(dots, rows, columns, shared):
    return Scores(shared["scale"] * dots)


def labelled(dots, rows, columns, shared):
    """Several positives, a mask and a denominator without them."""
    positive = rows["id"][:, None] == columns["id"][None, :]
    mask = positive | (rows["group"][:, None] != columns["group"][None, :])
    return Scores(shared["scale"] * dots, mask, positive, ~positive)


def soft(dots, rows, columns, shared):
    """Targets and logits that depend on every kind of leaf."""
    distance = rows["place"][:, None] - columns["place"][None, :]
    targets = jax.nn.sigmoid(shared["sharpness"] * distance)
    logits = shared["scale"] * dots + columns["weight"] - jnp.where(rows["rare"][:, None], 0.5, 0)
    return Scores(logits, targets=targets)


def logistic(dots, rows, columns, shared):
    logits = shared["scale"] * dots + shared["bias"]
    return Scores(jax.nn.softplus(jnp.where(rows["id"][:, None] == columns["id"][None, :], -logits, logits)))


def unit(random, n, d):
    x = random.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def records(r, c, d, dtype, seed=0):
    """Rows and columns that are alike in part, so that some pairs stand out; and shared numbers."""
    random = np.random.default_rng(seed)
    a, b = unit(random, r, d), unit(random, c, d)
    n = min(r, c)
    b[:n] = 0.8 * a[:n] + 0.6 * b[:n]

    def record(x):
        size = len(x)
        return {
            "embedding": jnp.asarray(x, dtype),
            "id": jnp.asarray(random.integers(0, 5, size)),
            "group": jnp.asarray(random.integers(0, 9, size), jnp.int8),
            "rare": jnp.asarray(random.random(size) < 0.3),
            "place": jnp.asarray(random.random(size), jnp.float32),
            "weight": jnp.asarray(random.random(size), jnp.float32),
        }

    shared = {"scale": jnp.float32(20), "bias": jnp.float32(-5), "sharpness": jnp.float32(3)}
    return record(a), record(b), shared


def problem_of(tile, rows, columns, shared, diagonal=False):
    splits = [Split.of(tree) for tree in (shared, rows, columns)]
    sides = [
        Side(*split.apart(tree), jnp.arange(len(tree["embedding"]), dtype=jnp.int32))
        for split, tree in zip(splits[1:], (rows, columns))
    ]
    problem = Problem(Dot(tile), *splits, (64, 64), jnp.float32, diagonal, ragged=False)
    needs = Needs(*((True,) * sum(split.is_floating) for split in splits))
    return problem, needs, splits[0].apart(shared), *sides


def whole(tile, diagonal, rows, columns, shared):
    """Sums of every pair at once: of rows and of columns (lse, target, mass), and the total."""
    rows, columns = dict(rows), dict(columns)
    dots = rows.pop("embedding") @ columns.pop("embedding").T
    scores = tile(dots, rows, columns, shared)
    mask = jnp.ones(dots.shape, bool) if scores.mask is None else scores.mask
    counted = mask if scores.denominator is None else mask & scores.denominator
    targets = jnp.eye(*dots.shape, dtype=dots.dtype) if diagonal else scores.targets
    targets = jnp.zeros(dots.shape) if targets is None else jnp.where(mask, targets, 0)
    logits = jnp.where(mask, scores.logits, 0)

    def sums(axis):
        lse = jax.nn.logsumexp(jnp.where(counted, logits, -jnp.inf), axis)
        return jnp.where(jnp.isfinite(lse), lse, 0), (targets * logits).sum(axis), targets.sum(axis)

    return sums(1), sums(0), logits.sum()


def in_float64(tree):
    return jax.tree.map(
        lambda x: np.asarray(x, np.float64) if x.dtype.kind not in "ib" else np.asarray(x), tree
    )


def wide(tree):
    def widened(x):
        x = np.asarray(x.astype(jnp.float32)) if jnp.issubdtype(x.dtype, jnp.floating) else np.asarray(x)
        return x.astype(np.float64) if x.dtype.kind == "f" else x

    return jax.tree.map(widened, tree)


def gradient_of(function, trees):
    """function's value and the gradients of the floating leaves, in float64."""
    with jax.enable_x64(True):
        splits = [Split.of(tree) for tree in trees]
        parts = [split.apart(tree) for split, tree in zip(splits, trees)]

        def of_floats(*floats):
            return function(*(s.together(f, p[1]) for s, f, p in zip(splits, floats, parts)))

        floats = [[jnp.asarray(x) for x in p[0]] for p in parts]
        value, gradients = jax.value_and_grad(of_floats, (0, 1, 2))(*floats)
        return np.asarray(value), jax.tree.map(np.asarray, gradients)


CASES = [
    (scaled, True, (50, 50, 24), jnp.float32),
    (scaled, True, (100, 70, 32), jnp.bfloat16),
    (labelled, False, (37, 81, 16), jnp.float32),
    (soft, False, (70, 33, 20), jnp.float32),
]


@pytest.mark.parametrize("tile,diagonal,shape,dtype", CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_sums_and_their_gradient_equal_the_whole_matrix(tile, diagonal, shape, dtype):
    rows, columns, shared = records(*shape, dtype)
    problem, needs, shared_parts, row, column = problem_of(tile, rows, columns, shared, diagonal)
    assert pallas.unsupported(problem, needs, shared_parts, row, column) is None
    random = np.random.default_rng(1)
    g = [[jnp.asarray(random.normal(size=n), jnp.float32) for _ in range(3)] for n in shape[:2]]
    trees = wide((shared, rows, columns))
    weights = wide(g)

    def loss(shared, rows, columns):
        found = whole(tile, diagonal, rows, columns, shared)
        return sum((w * x).sum() for ws, xs in zip(weights, found) for w, x in zip(ws, xs))

    _, want = gradient_of(loss, trees)
    with jax.enable_x64(True):
        want_sums = jax.tree.map(np.asarray, whole(tile, diagonal, *trees[1:], trees[0])[:2])

    @jax.jit
    def run(shared_parts, row, column, g):
        found = pallas.shifted_sums(problem, shared_parts, SHIFT, row, column, kernels=SMALL)
        lses = [jnp.where(x.tiles > 0, jnp.log(x.sum) + SHIFT, 0) for x in found]
        cotangents = [
            SideCotangents(jnp.where(x.tiles > 0, u * jnp.exp(SHIFT - lse), 0), lse, p, m)
            for x, lse, (u, p, m) in zip(found, lses, g)
        ]
        gradients = pallas.statistics_gradient(
            problem, needs, shared_parts, SHIFT, (row, cotangents[0]), (column, cotangents[1]), kernels=SMALL
        )
        return [(lse, x.target, x.mass) for lse, x in zip(lses, found)], gradients

    sums, got = run(shared_parts, row, column, g)
    if diagonal:
        sums, want_sums = ([x[0] for x in both] for both in (sums, want_sums))
    assert relative_error(sums, want_sums) < 1e-5
    assert relative_error(got, want) < (1e-5 if dtype == jnp.float32 else 6e-3)
