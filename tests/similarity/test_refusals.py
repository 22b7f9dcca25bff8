"""What a reduction refuses, and that it says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from meshes import make_mesh

from contrastive_jax.similarity import Dot, Scores, cross_entropy, expectation, logsumexp, top_k, total

z = np.ones((8, 3), np.float32)
record = {"embedding": z}


def dot(rows, columns, shared):
    return rows @ columns.T


def test_a_tile_that_closes_over_a_tracer():
    def loss(scale):
        return logsumexp(lambda a, b, s: scale * a @ b.T, z, z)[0].sum()

    for run in (jax.jit(loss), jax.grad(loss), jax.jit(jax.grad(loss))):
        with pytest.raises(
            ValueError, match=r"closes over a traced value of type .*\[\]; pass it in `shared`"
        ):
            run(2.0)


def test_a_tile_may_close_over_constants():
    weights = jnp.ones(())
    assert jnp.isfinite(total(lambda a, b, s: weights * a @ b.T, z, z))


def test_a_mesh_without_the_axes():
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    with (
        jax.set_mesh(mesh),
        pytest.raises(ValueError, match=r"\{'model': 8\} and none of axes=\('data', 'fsdp'\)"),
    ):
        jax.jit(lambda z: total(dot, z, z, axes=("data", "fsdp")))(z)
    with pytest.raises(
        ValueError, match=r"'model' \(size 8\) cannot be told .* engine=\{\"axes\": \(\"model\",\)\}"
    ):
        total(dot, z, z, mesh=mesh)
    assert total(dot, z, z, mesh=mesh, axes="model") == total(dot, z, z)


def test_arrays_on_another_mesh():
    elsewhere = jax.device_put(z, NamedSharding(make_mesh((8,)), PartitionSpec("data")))
    with (
        jax.set_mesh(make_mesh((2, 2))),
        pytest.raises(ValueError, match=r"\{'data': 8\}.*\{'data': 2, 'fsdp': 2\}"),
    ):
        total(dot, elsewhere, elsewhere)


def test_inside_a_shard_map():
    def inside(z):
        return logsumexp(dot, z, z)[0]

    mesh = make_mesh((8,))
    with pytest.raises(ValueError, match=r"inside a shard_map over \['data'\]"):
        jax.shard_map(inside, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"))(z)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: total(lambda a, b, s: (a @ b.T).T, z, z),
            r"logits for 5 rows and 7 columns have shape \(7, 5\)",
        ),
        (lambda: total(lambda a, b, s: Scores(a @ b.T, jnp.ones(5, bool)), z, z), r"mask .* shape \(5,\)"),
        (lambda: total(lambda a, b, s: (a @ b.T).astype(int), z, z), "int32, not floating"),
        (lambda: total(dot, {"a": z, "b": z[:4]}, z), r"leaves of `rows` differ.*\['a'\].*8.*\['b'\].*4"),
        (lambda: total(dot, z, z[:0]), "`columns` is empty"),
        (lambda: total(dot, np.float32(1), z), "rows is a scalar"),
        (lambda: total(dot, {}, z), "`rows` has no arrays"),
        (lambda: total(dot, z, z, block=0), "block=.*positive"),
        (lambda: cross_entropy(dot, z, z[:4], targets="diagonal"), "as many rows as columns, not 8 and 4"),
        (lambda: cross_entropy(dot, z, z, targets="diag"), "targets='diag'"),
        (lambda: top_k(dot, z, z, k=9), "k=9: give 1 to 8"),
        (lambda: total(dot, z, z, blok=4), "blok: unknown keyword; did you mean 'block'"),
        (lambda: total(dot, z, z, block=(4, 0)), r"block=\(4, 0\).*positive"),
        (lambda: total(dot, z, z, communication="rings"), "communication='rings': give 'ring', 'gather'"),
        (lambda: total(dot, z, z, backend="triton"), "backend='triton': give 'scan', 'pallas'"),
        (lambda: total(dot, z, z, backend="pallas"), "backend='pallas': kernels run Dot tiles alone"),
        (
            lambda: cross_entropy(Dot(lambda d, *_: d), record, record, backend="pallas"),
            "without a bound of the logits there is no kernel; take backend='scan'",
        ),
        (lambda: top_k(dot, z, z, backend="pallas"), "top_k has no kernels"),
        (lambda: total(dot, z, z, keep=-1), "keep=-1: give a number of bytes"),
        (lambda: total(dot, z, z, extra={"a": z}), "extra has the tree .* the columns have"),
        (lambda: total(dot, z, z, extra=z[:, :2]), r"extra has records of shape \(2,\), the columns \(3,\)"),
        (lambda: total(dot, z, z, extra=z[:0]), "`extra` is empty"),
        (lambda: total(Dot(lambda d, *_: d), z, z), r"reads rows\['embedding'\]; `rows` has none"),
        (lambda: total(Dot(lambda d, *_: d), record, {"embedding": z[:, :2]}), "of one dtype"),
        (lambda: total(Dot(lambda d, *_: d), record, {"embedding": z.astype(np.float16)}), "of one dtype"),
        (lambda: total(Dot(lambda d, *_: d[:1]), record, record), r"have shape \(1, 7\), not \(5, 7\)"),
        (lambda: expectation(dot, z, z), r"returns \(logits, values\) or Weighted"),
        (lambda: expectation(lambda a, b, s: (a @ b.T, a[:, 0]), z, z), r"values .* shape \(5,\)"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_spread_axis_that_examples_lie_on():
    with jax.set_mesh(make_mesh((2, 2))), pytest.raises(ValueError, match="spread='fsdp' is one of axes"):
        total(dot, z, z, spread="fsdp")


def test_extremes_that_are_no_mistake():
    """One example, and a block larger than there are rows."""
    assert total(dot, z[:1], z[:1], block=4096) == 3
    sums = cross_entropy(
        Dot(lambda d, *_: d, bound=lambda _: 3.0), {"embedding": z[:1]}, {"embedding": z[:1]}
    )
    assert sums.row_lse == pytest.approx(3)


def test_logits_that_are_not_numbers():
    """Documented: inf in the log-sum-exps of the row and of every column, never NaN."""
    bad = z.copy()
    bad[2] = np.nan
    for tile in (Dot(lambda d, *_: d), Dot(lambda d, *_: d, bound=lambda _: 3.0)):
        sums = cross_entropy(tile, {"embedding": bad}, record)
        assert np.isposinf(sums.row_lse).tolist() == [i == 2 for i in range(8)]
        assert np.isposinf(sums.column_lse).all()
        assert np.isposinf(total(tile, {"embedding": bad}, record))
