"""Meshes whose axes have other names: each pair is scored once, or the call is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from meshes import relative_error

import contrastive_jax as cj
from contrastive_jax.evaluation.nearest import search
from contrastive_jax.similarity import Dot, Extra, Weighted, cross_entropy, expectation, top_k, total
from contrastive_jax.similarity.placement import locate

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
TILE = Dot(lambda dots, *_: 5 * dots, bound=lambda _: 5.0)
z = np.random.default_rng(0).normal(size=(3, 24, 6)).astype(np.float32)


def mesh_of(kind=AUTO, **sizes):
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(kind,) * len(sizes))


def on(mesh, spec, x=z[0]):
    return jax.device_put(x, NamedSharding(mesh, spec))


def lies(x, spread="tensor", axes=None, **keywords):
    ring = locate([[], {"z": x, "id": jnp.arange(len(x))}, {"z": x}], axes, spread, **keywords).ring
    return ring.axes, ring.spread


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT])
@pytest.mark.parametrize(
    ("sizes", "spec", "found"),
    [
        ({"replica": 2, "fsdp": 4}, P(("replica", "fsdp")), (("replica", "fsdp"), ())),
        ({"replica": 2, "fsdp": 4}, P(("fsdp", "replica")), (("fsdp", "replica"), ())),
        ({"replica": 2, "fsdp": 4}, P("replica"), (("replica", "fsdp"), ())),
        ({"replica": 2, "fsdp": 4}, P("fsdp"), (("fsdp",), ("replica",))),
        ({"model": 8}, P("model"), (("model",), ())),
        ({"model": 8}, P(None, None), ((), ("model",))),
        ({"a": 2, "data": 2, "b": 2}, P("data"), (("data",), ("a", "b"))),
        ({"a": 2, "data": 2, "tensor": 2}, P(("data", "a")), (("data", "a"), ("tensor",))),
        ({"data": 2, "fsdp": 2, "tensor": 2}, P("fsdp"), (("data", "fsdp"), ("tensor",))),
        ({"fsdp": 4, "one": 1, "data": 2}, P(), (("data", "fsdp"), ())),
    ],
)
def test_the_axes_are_read_from_the_arrays(kind, sizes, spec, found):
    mesh = mesh_of(kind, **sizes)
    x = on(mesh, spec)
    assert lies(x) == found
    if kind == EXPLICIT:
        with jax.set_mesh(mesh):
            inside = []
            jax.eval_shape(lambda x: inside.append(lies(x)), x)
            assert inside == [found]


@pytest.mark.parametrize(
    ("sizes", "keywords", "named"),
    [
        (
            {"replica": 2, "fsdp": 4},
            {},
            (
                "'replica' (size 2)",
                'engine={"axes": ("replica", "fsdp")} if',
                'engine={"spread": "replica"} if',
                'engine={"axes": ("fsdp",)} to',
            ),
        ),
        ({"model": 8}, {}, ("'model' (size 8)", 'engine={"axes": ("model",)} if')),
        ({"a": 2, "data": 2, "b": 2}, {"spread": "b"}, ("'a' (size 2) cannot",)),
    ],
)
def test_axes_that_nobody_tells_of_are_refused(sizes, keywords, named):
    mesh = mesh_of(**sizes)
    for x in (
        on(mesh, P(mesh.axis_names)),
        z[0],
    ):  # inside jit it is not known, and of numpy there is nothing
        with jax.set_mesh(mesh), pytest.raises(ValueError) as refused:
            jax.eval_shape(lambda x: cj.nt_xent(x, x, scale=5.0, engine=keywords).value, x)
        assert all(text in str(refused.value) for text in named)
        with pytest.raises(ValueError, match="cannot be told from these arrays"):
            jax.eval_shape(
                lambda x: total(TILE, {"embedding": x}, {"embedding": x}, mesh=mesh, **keywords), x
            )


def test_what_the_caller_names_is_taken_as_it_is():
    mesh = mesh_of(replica=2, fsdp=4)
    x = jax.ShapeDtypeStruct(z[0].shape, z.dtype)
    with jax.set_mesh(mesh):
        for axes, found in ((("fsdp",), (("fsdp",), ())), (("fsdp", "replica"), (("fsdp", "replica"), ()))):
            assert lies(x, axes=axes) == found
        assert lies(x, "replica") == (("fsdp",), ("replica",))
        assert lies(x, ("replica", "fsdp"), axes=("data",)) == ((), ("replica", "fsdp"))
        with pytest.raises(ValueError, match="spread='fsdp' is one of axes"):
            lies(x, ("replica", "fsdp"), axes="fsdp")


@pytest.mark.parametrize("spec", [P(("replica", "fsdp")), P("fsdp")])
def test_every_reduction_is_the_same_there(spec):
    """Further columns as well, replicated and sharded; gradients; axes known by their types."""
    weights = np.linspace(1, 2, 24)

    def every(a, b, more, **engine):
        sides = {"embedding": a}, {"embedding": b}
        extra = [{"embedding": more[:8]}, Extra({"embedding": more}, sharded=True)]
        sums = cross_entropy(TILE, *sides, targets="diagonal", extra=extra, **engine)
        weighted = Dot(lambda dots, *_: Weighted(dots, dots**2))
        mean = expectation(weighted, *sides, extra=extra, **engine)
        value = (sums.row_lse * weights + sums.row_target + mean).sum() + sums.column_lse @ weights
        return value + total(TILE, *sides, extra=extra, **engine), top_k(TILE, *sides, k=3, **engine)

    def run(a, b, more):
        (value, best), pull = jax.vjp(every, a, b, more)
        zeros = jax.tree.map(
            lambda x: np.zeros(x.shape, jax.dtypes.float0 if x.dtype == int else x.dtype), best
        )
        return value, best, pull((jnp.ones_like(value), zeros))

    want = jax.jit(run)(*z)
    mesh = mesh_of(EXPLICIT, replica=2, fsdp=4)
    with jax.set_mesh(mesh):
        got = jax.jit(run)(*(on(mesh, spec, x) for x in z))
    assert relative_error(got, want) < 1e-5


def test_each_pair_is_scored_once():
    """By the compiler's count of a device's operations: an eighth of the work, not a fourth."""
    mesh = mesh_of(AUTO, replica=2, fsdp=4)
    x = jax.ShapeDtypeStruct((512, 64), np.float32, sharding=NamedSharding(mesh, P(("replica", "fsdp"))))

    def operations(**engine):
        def loss(x, y):
            return cj.softmax_contrastive(x, y, scale=5.0, engine={"block": 512, "keep": 0, **engine}).value

        with jax.set_mesh(mesh):
            return jax.jit(jax.grad(loss, (0, 1))).lower(x, x).compile().cost_analysis()["flops"]

    every, fourth = 2 * 512 * 512 * 64 * 4 / 8, operations(axes="fsdp")
    assert 2 * every < fourth
    for engine in ({"axes": ("replica", "fsdp")}, {"spread": "replica"}):
        assert every < operations(**engine) < 0.6 * fourth


def test_inside_a_shard_map_over_some_axes():
    mesh = mesh_of(AUTO, replica=2, fsdp=2, data=2)

    def local(x, **engine):
        return cj.nt_xent(x, x, scale=5.0, engine=engine).value[None]

    def mapped(axis, **engine):
        spec = P(axis)
        body = jax.shard_map(lambda x: local(x, **engine), in_specs=spec, out_specs=spec, axis_names={axis})
        return jax.eval_shape(body, z[0]).shape

    with jax.set_mesh(mesh):
        assert mapped("replica") == (2,)  # fsdp and data are shared out inside
        with pytest.raises(ValueError, match=r"inside a shard_map over \['fsdp'\]"):
            mapped("fsdp", axes=("replica", "fsdp"))
    with jax.set_mesh(mesh_of(AUTO, a=4, b=2)):
        with pytest.raises(ValueError, match=r"on 'b' \(size 2\) cannot be told"):
            mapped("a")
        assert mapped("a", axes="b") == (4,)
    with (
        jax.set_mesh(mesh_of(AUTO, a=8)),
        pytest.raises(ValueError, match=r"inside a shard_map over \['a'\]"),
    ):
        mapped("a")


def test_a_loss_for_each_part_of_a_shard_map():
    """Each part is a batch of its own; what all of them share has the sum of their gradients."""

    def parts(x, scale):
        return cj.nt_xent(x, x[::-1], scale=scale).value

    def mapped(x, scale):
        specs = (P("a"), P()), P("a")
        body = jax.shard_map(
            lambda *a: parts(*a)[None], in_specs=specs[0], out_specs=specs[1], axis_names={"a"}
        )
        return body(x, scale).sum()

    x, scale = z[0] / 4, jnp.float32(2)
    with jax.set_mesh(mesh_of(AUTO, a=2, data=4)):
        got = jax.jit(jax.value_and_grad(mapped, (0, 1)))(x, scale)
    one = jax.jit(jax.value_and_grad(parts, (0, 1)))
    (first, of_first), (second, of_second) = one(x[:12], scale), one(x[12:], scale)
    both = np.concatenate([of_first[0], of_second[0]]), of_first[1] + of_second[1]
    assert relative_error(got, (first + second, both)) < 1e-5


def test_shapes_say_where_they_lie():
    mesh = mesh_of(AUTO, replica=2, fsdp=4)
    spec = NamedSharding(mesh, P(("replica", "fsdp")))
    assert lies(jax.ShapeDtypeStruct((8, 3), np.float32, sharding=spec), mesh=mesh)[0] == ("replica", "fsdp")


def test_a_search_is_shared_out_on_any_mesh():
    want = search(z[0], z[1], 4, mesh_of(AUTO, data=8))
    got = search(z[0], z[1], 4, mesh_of(AUTO, replica=4, tensor=2))
    np.testing.assert_array_equal(got[1], want[1])
