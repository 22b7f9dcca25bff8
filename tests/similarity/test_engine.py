"""Whatever the engine chooses, the result is the whole matrix's: Dot tiles, further columns, meshes, keep."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from meshes import make_mesh, relative_error, whole_matrix
from records import TILE, joined, objective, scores, side, weighted, with_extras

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
@example(r=8, c=8, e=(8, 16), how=ways((2, 2, 2), "gather", block=(3, 5)), unit=True, seed=5)
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
