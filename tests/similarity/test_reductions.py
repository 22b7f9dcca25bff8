"""Every reduction equals the whole matrix in float64, gradients included, on every mesh and block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from meshes import SHAPES, make_mesh, relative_error, whole_matrix

from contrastive_jax.similarity import Dot, Scores, cross_entropy, logsumexp, top_k, total


def tile(rows, columns, shared) -> Scores:
    """Everything that a tile may use: several targets, soft weights, masks, scalars, integer labels."""
    logits = shared["scale"] * rows["z"] @ columns["z"].T + shared["bias"]
    mask = rows["group"][:, None] != columns["group"][None, :]
    targets = (rows["label"][:, None] == columns["label"][None, :]) * rows["weight"][:, None]
    return Scores(logits, mask, targets)


def side(seed: int, n: int, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {
        "z": jnp.asarray(rng.normal(size=(n, 5)), dtype),
        "weight": jnp.asarray(rng.random(n), dtype),
        "label": jnp.asarray(rng.integers(0, 4, n)),
        "group": jnp.asarray(rng.integers(0, 6, n)),
    }


def shared(dtype=np.float64):
    return {"scale": jnp.asarray(1.7, dtype), "bias": jnp.asarray(-0.3, dtype)}


def differentiable(objective):
    """objective(rows, columns, shared) -> value and gradients of its floating leaves."""

    def of_floating(floating, rows, columns):
        r, c, s = floating
        return objective({**rows, **r}, {**columns, **c}, s)

    def run(rows, columns, shared):
        floating = [{k: x[k] for k in ("z", "weight")} for x in (rows, columns)]
        return jax.value_and_grad(of_floating)((*floating, shared), rows, columns)

    return jax.jit(run)


def weighted_sum(sums):
    """One scalar that depends on every output, each with a weight of its own."""
    values = [jnp.where(jnp.isfinite(x), x, 0) for x in sums]
    return sum(jnp.vdot(x, jnp.cos(jnp.arange(x.size) + i)) for i, x in enumerate(values))


sizes = st.integers(1, 40)
blocks = st.one_of(st.none(), st.integers(1, 12), st.tuples(st.integers(1, 12), st.integers(1, 12)))


@pytest.mark.parametrize("shape", SHAPES)
@given(r=sizes, c=sizes, block=blocks, seed=st.integers(0, 99))
@example(r=13, c=29, block=(4, 5), seed=1)
def test_cross_entropy(shape, r, c, block, seed):
    with jax.enable_x64(True):
        rows, columns = side(seed, r), side(seed + 1, c)
        want = differentiable(lambda *a: weighted_sum(whole_matrix(tile, *a)))(rows, columns, shared())
        with jax.set_mesh(make_mesh(shape)):
            run = differentiable(lambda *a: weighted_sum(cross_entropy(tile, *a, block=block)))
            assert relative_error(run(rows, columns, shared()), want) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@given(r=sizes, c=sizes, block=blocks, seed=st.integers(0, 99))
@example(r=13, c=29, block=(4, 5), seed=1)
def test_total(shape, r, c, block, seed):
    def values(rows, columns, shared):
        scores = tile(rows, columns, shared)
        return Scores(jnp.tanh(scores.logits) * rows["weight"][:, None], scores.mask)

    def whole(*a):
        scores = values(*a)
        return jnp.where(scores.mask, scores.logits, 0).sum()

    with jax.enable_x64(True):
        rows, columns = side(seed, r), side(seed + 1, c)
        want = differentiable(whole)(rows, columns, shared())
        with jax.set_mesh(make_mesh(shape)):
            got = differentiable(lambda *a: total(values, *a, block=block))(rows, columns, shared())
            undifferentiated = jax.jit(lambda *a: total(values, *a, block=block))(rows, columns, shared())
        assert relative_error((got, undifferentiated), (want, want[0])) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@given(r=sizes, c=sizes, block=blocks, seed=st.integers(0, 99), data=st.data())
def test_top_k(shape, r, c, block, seed, data):
    k = data.draw(st.integers(1, c))
    rows, columns = side(seed, r, np.float32), side(seed + 1, c, np.float32)

    def rounded(*a):  # coarse values make ties
        scores = tile(*a)
        return scores._replace(logits=jnp.round(scores.logits))

    scores = rounded(rows, columns, shared(np.float32))
    logits = np.where(scores.mask, scores.logits, -np.inf)
    order = np.lexsort((np.broadcast_to(np.arange(c), (r, c)), -logits), axis=1)[:, :k]
    want = np.take_along_axis(logits, order, axis=1)
    with jax.set_mesh(make_mesh(shape)):
        values, indices = jax.jit(lambda *a: top_k(rounded, *a, k, block=block))(
            rows, columns, shared(np.float32)
        )
    np.testing.assert_array_equal(values, want)
    np.testing.assert_array_equal(indices, np.where(np.isneginf(want), -1, order))


@pytest.mark.parametrize("targets", [None, "diagonal"])
def test_diagonal_targets(targets):
    def bare(rows, columns, shared):
        return shared["scale"] * rows["z"] @ columns["z"].T

    def one_hot(*a):
        logits = bare(*a)
        return Scores(logits, targets=jnp.eye(len(logits)) if targets else jnp.zeros(logits.shape))

    with jax.enable_x64(True):
        rows, columns = side(0, 11), side(1, 11)
        want = differentiable(lambda *a: weighted_sum(whole_matrix(one_hot, *a)))(rows, columns, shared())
        with jax.set_mesh(make_mesh((2, 2))):
            run = differentiable(lambda *a: weighted_sum(cross_entropy(bare, *a, targets=targets, block=3)))
            assert relative_error(run(rows, columns, shared()), want) < 1e-12


def test_float32_and_bfloat16_are_close_to_float64():
    with jax.enable_x64(True):
        rows, columns = side(0, 64), side(1, 48)
        want = differentiable(lambda *a: weighted_sum(whole_matrix(tile, *a)))(rows, columns, shared())
        for dtype, bound in ((np.float32, 1e-5), (jnp.bfloat16, 3e-2)):
            narrow = jax.tree.map(
                lambda x, dtype=dtype: x.astype(dtype) if x.dtype == np.float64 else x, (rows, columns)
            )
            run = differentiable(lambda *a: weighted_sum(cross_entropy(tile, *a, block=16)))
            _, gradients = run(*narrow, shared(np.float32))
            assert gradients[0]["z"].dtype == dtype
            assert relative_error(gradients, want[1]) < bound


def test_targets_that_depend_on_parameters_get_their_gradient():
    def soft(rows, columns, shared):
        logits = rows["z"] @ columns["z"].T
        return Scores(logits, targets=jax.nn.sigmoid(shared["scale"] * logits))

    with jax.enable_x64(True):
        rows, columns = side(0, 9), side(1, 12)
        want = differentiable(lambda *a: weighted_sum(whole_matrix(soft, *a)))(rows, columns, shared())
        run = differentiable(lambda *a: weighted_sum(cross_entropy(soft, *a, block=5)))
        assert relative_error(run(rows, columns, shared()), want) < 1e-12


def test_logits_of_minus_infinity_are_no_pairs():
    def tile(rows, columns, shared):
        logits = rows["z"] @ columns["z"].T
        apart = rows["label"][:, None] != columns["label"][None, :]
        return Scores(jnp.where(apart, logits, -jnp.inf), targets=jnp.ones(logits.shape) * apart)

    rows, columns = side(0, 6, np.float32), side(1, 6, np.float32)
    rows["label"] = rows["label"].at[0].set(2)
    columns["label"] = jnp.full(6, 2)  # row 0 has no pair at all
    sums = cross_entropy(tile, rows, columns, block=4)
    assert jnp.isneginf(sums.row_lse[0])
    assert sums.row_target[0] == 0
    value, gradients = differentiable(lambda *a: weighted_sum(cross_entropy(tile, *a, block=4)))(
        rows, columns, {}
    )
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves((value, gradients)))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_uses_the_mesh_that_arrays_lie_on(axis_type):
    """No ambient mesh: the arrays say where they are, and the similarity matrix is never gathered."""
    mesh = make_mesh((8,), axis_type)
    z = jax.device_put(
        np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32),
        NamedSharding(mesh, PartitionSpec("data")),
    )
    plain = np.asarray(z)
    step = jax.jit(
        jax.value_and_grad(lambda z: logsumexp(lambda a, b, s: a @ b.T, z, z, communication="ring")[0].sum())
    )
    text = step.lower(z).compile().as_text()
    assert "collective-permute" in text
    assert relative_error(step(z)[0], jax.nn.logsumexp(plain @ plain.T, 1).sum()) < 1e-5


@pytest.mark.parametrize(
    "tile", [lambda a, b, s: a["embedding"] @ b["embedding"].T, Dot(lambda d, *_: d, lambda _: 1.0)]
)
def test_nothing_of_the_matrix_is_kept(tile):
    """Temporaries grow with the tile and the embeddings, not with rows x columns."""
    z = jax.ShapeDtypeStruct((16384, 16), np.float32)

    def loss(a, b):
        return logsumexp(tile, {"embedding": a}, {"embedding": b}, block=256)[0].sum()

    memory = jax.jit(jax.grad(loss, (0, 1))).lower(z, z).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 16 * 2**20 < 16384 * 16384 * 4 / 50


def test_more_devices_than_are_unrolled(monkeypatch):
    """On a pod the hops are a loop; here the loop starts at 8 devices instead of 17."""
    monkeypatch.setattr("contrastive_jax.similarity.travel.UNROLLED_HOPS", 4)
    with jax.enable_x64(True):
        rows, columns = side(0, 19), side(1, 24)
        want = differentiable(lambda *a: weighted_sum(whole_matrix(tile, *a)))(rows, columns, shared())
        with jax.set_mesh(make_mesh((8,))):
            run = differentiable(lambda *a: weighted_sum(cross_entropy(tile, *a, block=2)))
            assert "while" in run.lower(rows, columns, shared()).as_text()
            assert relative_error(run(rows, columns, shared()), want) < 1e-12


@pytest.mark.parametrize("n", [13, 16])
def test_explicit_axes(n):
    """Where shardings are types, a gradient comes back in the type of what it is the gradient of."""

    def summed(reduction):
        return differentiable(lambda *a: sum(jnp.where(jnp.isfinite(x), x, 0).sum() for x in reduction(*a)))

    with jax.enable_x64(True):
        rows, columns = side(0, n), side(1, n)
        want = summed(lambda *a: whole_matrix(tile, *a))(rows, columns, shared())
        mesh = make_mesh((2, 2), AxisType.Explicit)
        with jax.set_mesh(mesh):
            if n == 16:
                rows = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(("data", "fsdp"))))
            got = summed(lambda *a: cross_entropy(tile, *a, block=3))(rows, columns, shared())
        assert jax.typeof(got[1][0]["z"]).sharding.spec == jax.typeof(jnp.asarray(rows["z"])).sharding.spec
        assert relative_error(got, want) < 1e-12
