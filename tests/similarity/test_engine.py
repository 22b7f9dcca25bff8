"""Whatever the engine chooses, the result is the whole matrix's: Dot tiles, further columns, meshes, keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jax.sharding import AxisType
from meshes import make_mesh, relative_error, whole_matrix

from contrastive_jax.similarity import (
    Dot,
    Extra,
    Scores,
    Weighted,
    cross_entropy,
    expectation,
    plan,
    top_k,
    total,
)

MESHES = [(1,), (8,), (2, 4), (4, 2), (2, 2, 2), (1, 1, 8), (2, 1, 4), (1, 8)]


def scores(dots, rows, columns, shared) -> Scores:
    """All that the scores of a Dot tile may use."""
    logits = shared["scale"] * dots + columns["log_weight"][None, :]
    mask = rows["group"][:, None] != columns["group"][None, :]
    same = rows["label"][:, None] == columns["label"][None, :]
    return Scores(logits, mask, same * rows["weight"][:, None], denominator=~same)


TILE = Dot(scores, bound=lambda shared: shared["scale"] + 3)


def side(seed: int, n: int, unit: bool = True):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 5))
    z = z / np.linalg.norm(z, axis=1, keepdims=True) if unit else 3 * z
    return {
        "embedding": jnp.asarray(z),
        "weight": jnp.asarray(rng.random(n)),
        "log_weight": jnp.asarray(rng.normal(size=n)),
        "label": jnp.asarray(rng.integers(0, 4, n)),
        "group": jnp.asarray(rng.integers(0, 9, n)),
    }


def floating(record):
    return {k: v for k, v in record.items() if v.dtype == np.float64}


def objective(reduction, records):
    """Value and gradients of reduction(records, scale) in every floating leaf and the scale."""

    def of_floating(leaves, scale):
        merged = [{**record, **leaf} for record, leaf in zip(records, leaves)]
        return reduction(merged, {"scale": scale})

    leaves = [floating(record) for record in records]
    return jax.jit(jax.value_and_grad(of_floating, (0, 1)))(leaves, jnp.float64(4.0))


def weighted(arrays):
    """One scalar that depends on every output, each with a weight of its own."""
    values = [jnp.where(jnp.isfinite(x), x, 0) for x in arrays]
    return sum(jnp.vdot(x, jnp.cos(jnp.arange(x.size) + i)) for i, x in enumerate(values))


def joined(columns, extras):
    return {k: jnp.concatenate([columns[k], *(e[k] for e in extras)]) for k in columns}


def with_extras(records, shared):
    """What cross_entropy means with further columns: they enter the rows' results and have none."""
    rows, columns, *extras = records
    of_rows = whole_matrix(TILE, rows, joined(columns, extras), shared)
    of_columns = whole_matrix(TILE, rows, columns, shared)
    return [r if i % 2 == 0 else c for i, (r, c) in enumerate(zip(of_rows, of_columns))]


how = st.fixed_dictionaries(
    {
        "mesh": st.sampled_from(MESHES),
        "communication": st.sampled_from(["ring", "gather", None]),
        "keep": st.sampled_from([0, None]),
        "block": st.one_of(st.none(), st.tuples(st.integers(1, 12), st.integers(1, 12))),
    }
)
sizes = st.integers(1, 40)


def engine(how):
    return {name: how[name] for name in ("communication", "keep", "block")}


def ways(mesh, communication="ring", keep=None, block=(4, 5)):
    return {"mesh": mesh, "communication": communication, "keep": keep, "block": block}


@given(r=sizes, c=sizes, e=st.tuples(sizes, sizes), how=how, unit=st.booleans(), seed=st.integers(0, 99))
@example(r=13, c=29, e=(7, 3), how=ways((2, 2, 2)), unit=True, seed=1)
@example(r=13, c=29, e=(9, 16), how=ways((4, 2), "gather", 0), unit=False, seed=2)
@example(r=16, c=32, e=(8, 8), how=ways((8,), "ring", None, (2, 2)), unit=True, seed=3)
@example(r=5, c=9, e=(2, 3), how=ways((1, 1, 8), None), unit=True, seed=4)
def test_cross_entropy(r, c, e, how, unit, seed):
    with jax.enable_x64(True):
        records = [side(seed + i, n, unit) for i, n in enumerate((r, c, *e))]
        want = objective(lambda *a: weighted(with_extras(*a)), records)

        def reduction(records, shared):
            rows, columns, here, sharded = records
            extra = [here, Extra(sharded, sharded=True)]
            return weighted(cross_entropy(TILE, rows, columns, shared, extra=extra, **engine(how)))

        with jax.set_mesh(make_mesh(how["mesh"])):
            assert relative_error(objective(reduction, records), want) < 1e-11


@given(n=sizes, how=how, unit=st.booleans(), seed=st.integers(0, 99))
@example(n=13, how=ways((2, 2, 2)), unit=True, seed=1)
@example(n=16, how=ways((2, 4), "gather", 0), unit=True, seed=1)
def test_diagonal_targets(n, how, unit, seed):
    def bare(dots, rows, columns, shared):
        mask = rows["group"][:, None] != columns["group"][None, :]
        return Scores(shared["scale"] * dots + columns["log_weight"], mask)

    def one_hot(rows, columns, shared):
        dots = rows["embedding"] @ columns["embedding"].T
        return bare(dots, rows, columns, shared)._replace(targets=jnp.eye(n))

    tile = Dot(bare, bound=TILE.bound)
    with jax.enable_x64(True):
        records = [side(seed, n, unit), side(seed + 1, n, unit)]
        want = objective(lambda r, s: weighted(whole_matrix(one_hot, *r, s)), records)
        with jax.set_mesh(make_mesh(how["mesh"])):
            got = objective(
                lambda r, s: weighted(cross_entropy(tile, *r, s, targets="diagonal", **engine(how))), records
            )
        assert relative_error(got, want) < 1e-11


@given(r=sizes, c=sizes, e=sizes, how=how, seed=st.integers(0, 99))
@example(r=13, c=29, e=7, how=ways((2, 2, 2)), seed=1)
@example(r=13, c=29, e=7, how=ways((4, 2), "gather"), seed=1)
def test_total(r, c, e, how, seed):
    def values(dots, rows, columns, shared):
        found = scores(dots, rows, columns, shared)
        return Scores(jnp.tanh(found.logits) * rows["weight"][:, None], found.mask)

    tile = Dot(values)

    def whole(records, shared):
        rows, columns, extra = records
        found = tile(rows, joined(columns, [extra]), shared)
        return jnp.where(found.mask, found.logits, 0).sum()

    with jax.enable_x64(True):
        records = [side(seed + i, n) for i, n in enumerate((r, c, e))]
        want = objective(whole, records)

        def reduction(records, shared):
            rows, columns, extra = records
            return total(tile, rows, columns, shared, extra=Extra(extra, sharded=True), **engine(how))

        with jax.set_mesh(make_mesh(how["mesh"])):
            assert relative_error(objective(reduction, records), want) < 1e-11


@given(r=sizes, c=sizes, e=sizes, how=how, constant=st.booleans(), seed=st.integers(0, 99))
@example(r=13, c=29, e=7, how=ways((2, 2, 2)), constant=False, seed=1)
@example(r=13, c=29, e=7, how=ways((8,), "gather"), constant=True, seed=1)
def test_expectation(r, c, e, how, constant, seed):
    def distances(dots, rows, columns, shared):
        mask = rows["group"][:, None] != columns["group"][None, :]
        values = 2 - 2 * dots + columns["weight"][None, :]
        return Weighted(shared["scale"] * values, values, mask)

    def whole(records, shared):
        rows, columns, extra = records
        logits, values, mask = Dot(distances)(rows, joined(columns, [extra]), shared)
        weights = jax.nn.softmax(jnp.where(mask, logits, -1e30), axis=1) * mask
        weights = jax.lax.stop_gradient(weights) if constant else weights
        return weighted([(weights * values).sum(1)])

    with jax.enable_x64(True):
        records = [side(seed + i, n) for i, n in enumerate((r, c, e))]
        want = objective(whole, records)

        def reduction(records, shared):
            rows, columns, extra = records
            mean = expectation(
                Dot(distances),
                rows,
                columns,
                shared,
                extra=extra,
                weights_gradient=not constant,
                **engine(how),
            )
            return weighted([mean])

        with jax.set_mesh(make_mesh(how["mesh"])):
            assert relative_error(objective(reduction, records), want) < 1e-9


def test_top_k_counts_further_columns_on():
    rows, columns, extra = (side(i, n) for i, n in enumerate((6, 9, 5)))
    tile = Dot(lambda dots, rows, columns, shared: dots)
    everything = tile(rows, joined(columns, [extra]), None)
    with jax.set_mesh(make_mesh((2, 2, 2))):
        values, indices = jax.jit(lambda a, b, e: top_k(tile, a, b, None, 4, extra=e, block=3))(
            rows, columns, extra
        )
    np.testing.assert_array_equal(indices, jnp.argsort(-everything, axis=1)[:, :4])
    np.testing.assert_allclose(values, -jnp.sort(-everything, axis=1)[:, :4], rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_logits_beyond_the_bound_are_summed_again(scale):
    """The shift is for logits up to the bound: far above it or far below all of it, maxima take over."""
    z = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 5)))

    def value_of(reduction):
        return jax.jit(jax.value_and_grad(lambda z: weighted(reduction(z[0], z[1]))))(z)

    def dense(a, b):
        logits = scale * a @ b.T
        return jax.nn.logsumexp(logits, 1), jax.nn.logsumexp(logits, 0)

    for bound in (-500.0, 0.0, 500.0):
        tile = Dot(lambda dots, *_: scale * dots, bound=lambda shared, bound=bound: bound)

        def reduction(a, b, tile=tile):
            return cross_entropy(tile, {"embedding": a}, {"embedding": b}, block=5)[:2]

        got, want = value_of(reduction), value_of(dense)
        assert relative_error(got, want) < 2e-5


@pytest.mark.parametrize(
    ("mesh", "keywords"),
    [
        ((2, 1, 2), {"communication": "gather"}),
        pytest.param((2, 2), {"communication": "ring"}, marks=pytest.mark.slow),
        pytest.param((1,), {"block": (9, 8)}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("reduction", ["cross_entropy", "total"])
def test_kernels_on_a_mesh(mesh, keywords, reduction):
    """Interpreted here: the same rings, blocks and further columns as the sweeps by scan."""
    records = [narrowed(side(i, n)) for i, n in enumerate((13, 29, 7))]

    def value(embeddings, scale, backend):
        rows, columns, extra = ({**r, "embedding": z} for r, z in zip(records, embeddings))
        how = {"extra": Extra(extra, sharded=True), "backend": backend, **keywords}
        if reduction == "total":
            return total(TILE, rows, columns, {"scale": scale}, **how)
        return weighted(cross_entropy(TILE, rows, columns, {"scale": scale}, **how))

    with jax.set_mesh(make_mesh(mesh)):
        arguments = [r["embedding"] for r in records], jnp.float32(4)
        got, want = (
            jax.jit(jax.value_and_grad(lambda *a, b=b: value(*a, b), (0, 1)))(*arguments)
            for b in ("pallas", "scan")
        )
    assert relative_error(got, want) < 1e-5


def narrowed(record):
    narrow = {"f": np.float32, "i": np.int32}
    return {name: np.asarray(x, narrow[x.dtype.kind]) for name, x in record.items()}


def test_columns_without_a_gradient_cost_none():
    """A queue's columns travel, their gradient does not: the program has no product for it."""
    z = jax.ShapeDtypeStruct((64, 16), np.float32)
    tile = Dot(lambda dots, *_: 5 * dots, bound=lambda shared: 5.0)

    def loss(z, queue, stopped):
        queue = jax.lax.stop_gradient(queue) if stopped else queue
        lse, _ = cross_entropy(
            tile, {"embedding": z}, {"embedding": z}, extra={"embedding": queue}, keep=0, block=64
        )[:2]
        return lse.sum()

    def products(stopped):
        gradient = jax.grad(lambda z, q: loss(z, q, stopped), (0, 1))
        return jax.jit(gradient).lower(z, z).as_text().count("stablehlo.dot_general")

    assert products(True) < products(False)


@pytest.mark.parametrize("unrolled", [0, 16])
def test_large_arrays_travel_in_pieces(monkeypatch, unrolled):
    """On a pod a device's columns are gigabytes; here an array is large from 65 bytes on."""
    monkeypatch.setattr("contrastive_jax.similarity.travel.LARGE", 64)
    monkeypatch.setattr("contrastive_jax.similarity.travel.UNROLLED_HOPS", unrolled)
    with jax.enable_x64(True):
        records = [side(i, n) for i, n in enumerate((40, 56, 24))]
        want = objective(lambda *a: weighted(with_extras(*a)), records)

        def reduction(records, shared):
            rows, columns, extra = records
            extra = Extra(extra, sharded=True)
            return weighted(
                cross_entropy(TILE, rows, columns, shared, extra=extra, communication="ring", block=3)
            )

        with jax.set_mesh(make_mesh((2, 2, 2))):
            assert relative_error(objective(reduction, records), want) < 1e-11


@pytest.mark.parametrize("targets", [None, "diagonal"])
def test_an_explicit_mesh_with_a_spread_axis(targets):
    """What comes back of the columns lies alike, so that a loss can go on with it."""
    with jax.enable_x64(True):
        records = [side(0, 16), side(1, 16), side(2, 8)]

        def reduction(records, shared):
            rows, columns, extra = records
            sums = cross_entropy(TILE, rows, columns, shared, targets=targets, extra=extra, block=3)
            values = sums.row_lse + sums.row_mass, sums.column_lse - sums.column_target
            return weighted(values)

        want = objective(reduction, records)
        mesh = make_mesh((2, 2, 2), AxisType.Explicit)
        with jax.set_mesh(mesh):
            by_example = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
            records = [jax.device_put(record, by_example) for record in records]
            assert relative_error(objective(reduction, records), want) < 1e-11


def test_what_is_chosen():
    z = {"embedding": jax.ShapeDtypeStruct((4096, 64), np.float32)}
    tile = Dot(lambda dots, *_: dots, bound=lambda shared: 1.0)
    assert plan(tile, z, z) == ((1024, 1024), "scan", None, True)
    assert not plan(tile, z, z, keep=4 * 4096 * 4096 - 1).keeps
    assert not plan(Dot(tile.scores), z, z).keeps
    mesh = make_mesh((8,))
    assert plan(tile, z, z, mesh=mesh).block == (512, 512)
    few = {"embedding": jax.ShapeDtypeStruct((32, 64), np.float32)}
    assert plan(tile, few, few, mesh=mesh).communication == "gather"
    many = {"embedding": jax.ShapeDtypeStruct((2**20, 64), np.float32)}
    assert plan(tile, many, many, mesh=mesh).communication == "ring"
    assert plan(tile, few, few, mesh=mesh, communication="ring").communication == "ring"
