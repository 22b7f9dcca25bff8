"""What a mesh, a kernel or a bound may do on the way to the same result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from meshes import make_mesh, relative_error
from records import TILE, objective, side, weighted, with_extras

from contrastive_jax.similarity import Dot, Extra, cross_entropy, total


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
