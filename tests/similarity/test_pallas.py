"""The kernels, interpreted, against the whole matrix in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.similarity import Dot, Scores, pallas, pallas_tpu
from contrastive_jax.similarity.pallas_gpu import Config
from contrastive_jax.similarity.pallas_math import log1p, softplus
from contrastive_jax.similarity.pallas_sweep import Kernels
from contrastive_jax.similarity.scores import Needs, Problem
from contrastive_jax.similarity.steps import SideCotangents
from contrastive_jax.similarity.tiles import Side, Split, normalise
from tests.similarity.meshes import make_mesh, relative_error

SMALL = Kernels(Config(rows=16, columns=32, depth=16, group=2), interpret=True, rows=32, matrix_rows=48)
OF_TPU = Kernels(pallas_tpu.Config(rows=16, columns=32, depth=16), interpret=True, rows=32, matrix_rows=48)
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


def lonely(dots, rows, columns, shared):
    """Rare rows and columns have no pair at all."""
    return Scores(shared["scale"] * dots, ~rows["rare"][:, None] & ~columns["rare"][None, :])


def logistic(dots, rows, columns, shared):
    logits = shared["scale"] * dots + shared["bias"]
    positive = rows["id"][:, None] == columns["id"][None, :]
    return jax.nn.softplus(jnp.where(positive, -logits, logits))


def weighted(dots, rows, columns, shared):
    mask = rows["group"][:, None] != columns["group"][None, :]
    return Scores(jnp.tanh(dots) * columns["weight"] * rows["place"][:, None] + shared["bias"], mask)


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
    scores = normalise(tile(dots, rows, columns, shared))
    mask = jnp.ones(dots.shape, bool) if scores.mask is None else scores.mask
    counted = mask if scores.denominator is None else mask & scores.denominator
    targets = jnp.eye(*dots.shape, dtype=dots.dtype) if diagonal else scores.targets
    targets = jnp.zeros(dots.shape) if targets is None else jnp.where(mask, targets, 0)
    logits = jnp.where(mask, scores.logits, 0)

    def sums(axis):
        lse = jax.nn.logsumexp(jnp.where(counted, logits, -jnp.inf), axis)
        return jnp.where(jnp.isfinite(lse), lse, 0), (targets * logits).sum(axis), targets.sum(axis)

    return sums(1), sums(0), logits.sum()


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
    (scaled, True, (50, 50, 24), jnp.float32, OF_TPU),
    (scaled, True, (100, 70, 32), jnp.bfloat16, SMALL),
    (labelled, False, (37, 81, 16), jnp.float32, SMALL),
    (soft, False, (70, 33, 20), jnp.float32, SMALL),
    (soft, False, (33, 70, 20), jnp.float32, OF_TPU),
    (lonely, False, (40, 20, 16), jnp.float32, SMALL),
]
CASE = ("tile", "diagonal", "shape", "dtype", "kernels")


def named(x):
    return ("tpu" if x is OF_TPU else "gpu") if isinstance(x, Kernels) else getattr(x, "__name__", str(x))


@pytest.mark.parametrize(CASE, CASES, ids=named)
def test_sums_and_their_gradient_equal_the_whole_matrix(tile, diagonal, shape, dtype, kernels):
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
        found = pallas.shifted_sums(problem, shared_parts, SHIFT, row, column, kernels=kernels)
        lses = [jnp.where(x.tiles > 0, jnp.log(x.sum) + SHIFT, 0) for x in found]
        cotangents = [
            SideCotangents(jnp.where(x.tiles > 0, u * jnp.exp(SHIFT - lse), 0), lse, p, m)
            for x, lse, (u, p, m) in zip(found, lses, g)
        ]
        gradients = pallas.statistics_gradient(
            problem,
            needs,
            shared_parts,
            SHIFT,
            (row, cotangents[0]),
            (column, cotangents[1]),
            kernels=kernels,
        )
        return [(lse, x.target, x.mass) for lse, x in zip(lses, found)], gradients

    sums, got = run(shared_parts, row, column, g)
    if diagonal:
        sums, want_sums = ([x[0] for x in both] for both in (sums, want_sums))
    assert relative_error(sums, want_sums) < 1e-5
    assert relative_error(got, want) < (1e-5 if dtype == jnp.float32 else 6e-3)


TOTALS = [
    (logistic, False, (60, 50, 16), jnp.bfloat16, OF_TPU),
    (weighted, False, (50, 70, 20), jnp.float32, SMALL),
]


@pytest.mark.parametrize(CASE, TOTALS, ids=named)
def test_a_total_and_its_gradient_equal_the_whole_matrix(tile, diagonal, shape, dtype, kernels):
    rows, columns, shared = records(*shape, dtype)
    problem, needs, shared_parts, row, column = problem_of(tile, rows, columns, shared)

    def loss(shared, rows, columns):
        return whole(tile, diagonal, rows, columns, shared)[2]

    want, want_gradient = gradient_of(loss, wide((shared, rows, columns)))
    value, *gradient = pallas.total_with_gradient(problem, needs, shared_parts, row, column, kernels=kernels)
    assert relative_error(value, want) < 1e-5
    assert relative_error(pallas.total(problem, shared_parts, row, column, kernels=kernels), want) < 1e-5
    assert relative_error(gradient, tuple(want_gradient)) < (1e-5 if dtype == jnp.float32 else 6e-3)


@pytest.mark.parametrize("scale", [10, 20])
def test_the_gradient_of_the_scale_has_its_sign_where_the_batch_is_easy(scale):
    """Every pair is found at once: 1 - p is what is left of two numbers that a narrow dtype cannot tell."""
    random = np.random.default_rng(3)
    a = unit(random, 40, 32)
    rows = {"embedding": jnp.asarray(a, jnp.bfloat16)}
    problem, needs, shared, row, column = problem_of(scaled, rows, rows, {"scale": jnp.float32(scale)}, True)
    shift = scale - 60

    def loss(shared, rows, columns):
        (row_lse, target, _), (column_lse, _, _), _ = whole(scaled, True, rows, columns, shared)
        return (row_lse / 2 + column_lse / 2 - target).mean()

    _, want = gradient_of(loss, wide(({"scale": jnp.float32(scale)}, rows, rows)))
    sums = pallas.shifted_sums(problem, shared, shift, row, column, kernels=SMALL)
    half = jnp.full(40, 0.5 / 40)
    g = [SideCotangents(half / x.sum, jnp.log(x.sum) + shift, -half, 0 * half) for x in sums]
    got = pallas.statistics_gradient(
        problem, needs, shared, shift, (row, g[0]), (column, g[1]), kernels=SMALL
    )
    assert relative_error(got[0], want[0]) < 1e-2


def test_further_columns_enter_rows_alone():
    rows, columns, shared = records(40, 30, 16, jnp.float32)
    problem, needs, shared_parts, row, column = problem_of(scaled, rows, columns, shared)
    needs = needs._replace(columns=(False,) * len(needs.columns))
    found, nothing = pallas.shifted_sums(
        problem, shared_parts, SHIFT, row, column, of_columns=False, kernels=SMALL
    )
    assert nothing is None
    g = SideCotangents(1 / found.sum, jnp.log(found.sum) + SHIFT, *[jnp.zeros(40)] * 2)
    _, of_rows, of_columns = pallas.statistics_gradient(
        problem, needs, shared_parts, SHIFT, (row, g), (column, None), kernels=SMALL
    )

    def loss(shared, rows, columns):
        return whole(scaled, False, rows, columns, shared)[0][0].sum()

    _, (_, want, _) = gradient_of(loss, wide((shared, rows, columns)))
    assert relative_error(of_rows, want) < 1e-5
    assert of_columns == [None] * len(needs.columns)


def test_inside_a_shard_map_each_device_has_its_own_pairs():
    rows, columns, shared = records(40, 40, 16, jnp.float32)
    problem, needs, shared_parts, row, column = problem_of(scaled, rows, columns, shared, True)

    def run(shared_parts, row, column):
        sums = pallas.shifted_sums(problem, shared_parts, SHIFT, row, column, kernels=SMALL)
        g = [SideCotangents(1 / x.sum, jnp.log(x.sum), -jnp.ones(len(x.sum)), x.mass) for x in sums]
        sides = (row, g[0]), (column, g[1])
        gradient = pallas.statistics_gradient(problem, needs, shared_parts, SHIFT, *sides, kernels=SMALL)
        return sums, gradient[1:]

    mesh = make_mesh((2,))
    here, apart = jax.P(), jax.P("data")
    # check_vma: jax's interpreter of kernels loses the types that it checks; compiled ones have them
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(here, apart, apart), out_specs=apart, check_vma=False)
    halves = [jax.tree.map(lambda x, i=i: x[20 * i : 20 * i + 20], (row, column)) for i in range(2)]
    alone = [jax.jit(run)(shared_parts, *half) for half in halves]
    want = jax.tree.map(lambda *x: jnp.concatenate(x), *alone)
    assert relative_error(jax.jit(mapped)(shared_parts, row, column), want) < 1e-6


REFUSED = {
    "cumsum": (lambda d, r, c, s: jnp.cumsum(d, 1), None),
    "dot_general": (lambda d, r, c, s: d + r["token"] @ c["token"].T, "token"),
    "one number an example": (lambda d, r, c, s: d + r["token"].sum(1)[:, None], "token"),
    "closes over an array": (lambda d, r, c, s: d + jnp.asarray(np.arange(7.0))[: d.shape[1]] * 0, None),
    "only scalars": (lambda d, r, c, s: d * s["list"].sum(), "list"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_tile_that_no_kernel_can_run_is_named(reason):
    tile, leaf = REFUSED[reason]
    rows, columns, shared = records(8, 8, 16, jnp.float32)
    if leaf == "token":
        rows["token"] = columns["token"] = jnp.ones((8, 3))
    if leaf == "list":
        shared["list"] = jnp.ones(3)
    problem, needs, shared_parts, row, column = problem_of(tile, rows, columns, shared)
    found = pallas.unsupported(problem, needs, shared_parts, row, column)
    assert found is not None
    assert reason in found or reason == "dot_general"


def test_softplus_is_right_to_rounding():
    x = np.concatenate([np.linspace(-80, 80, 3001), [-1e30, 0.0, 1e30]])
    got, slope = jax.jvp(softplus, (jnp.asarray(x, jnp.float32),), (jnp.ones(len(x), jnp.float32),))
    x = np.asarray(x, np.float32).astype(np.float64)
    np.testing.assert_allclose(got, np.logaddexp(x, 0), rtol=6e-6)
    np.testing.assert_allclose(slope, np.exp(-np.logaddexp(-x, 0)), rtol=6e-6)
    small = np.linspace(-0.9, 5, 1001).astype(np.float32)
    np.testing.assert_allclose(log1p(jnp.asarray(small)), np.log1p(small.astype(np.float64)), rtol=1e-6)
