import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.distributed.sharding import MESH_AXES, constrain, shardings, specification
from contrastive_jax.errors import InputError

AXES = ("data", "fsdp", "tensor")


def mesh_of(*sizes, names=AXES):
    return jax.make_mesh(sizes, names, axis_types=(AxisType.Auto,) * len(sizes))


@pytest.mark.parametrize(
    ("names", "shape", "expected"),
    [
        (("embed", "mlp"), (64, 256), P("fsdp", "tensor")),
        (("layers", "mlp", "embed"), (3, 256, 64), P(None, "tensor", "fsdp")),
        (("embed", "projections", "heads", "kv"), (64, 3, 4, 16), P("fsdp", None, "tensor")),
        (("batch", "length", "features"), (8, 5, 7), P(("data", "fsdp"))),
        (("vocab", None), (10, 3), P("tensor")),
        ((), (), P()),
    ],
)
def test_specification_follows_the_table(names, shape, expected):
    assert specification(names, shape, mesh_of(2, 2, 2)) == expected


def test_mesh_axes_absent_or_of_size_one_are_left_out():
    assert specification(("batch", "mlp"), (4, 4), mesh_of(4, 1, 1)) == P("data")
    assert specification(("batch", "embed"), (8, 3), mesh_of(8, names=("data",))) == P("data")


@pytest.mark.parametrize(
    ("names", "shape", "words"),
    [
        (("embed", "mpl"), (4, 4), "unknown logical axis 'mpl'"),
        (("mlp", "heads"), (4, 4), "'mlp' and 'heads' both lie on mesh axis 'tensor'"),
        (("batch", "embed"), (4, 4), "both lie on mesh axis 'fsdp'"),
        (
            ("embed", "mlp"),
            (4, 5),
            "axis 'mlp' of size 5 does not divide over 2 devices (config.mesh.tensor=2)",
        ),
    ],
)
def test_a_wrong_axis_is_an_error_that_names_the_parameter(names, shape, words):
    with pytest.raises(InputError) as raised:
        specification(names, shape, mesh_of(2, 2, 2), "encoders/image/blocks/kernel")
    assert str(raised.value).startswith("encoders/image/blocks/kernel: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_shardings_name_the_parameter_by_its_path():
    mesh = mesh_of(2, 2, 2)
    shapes = {"a": {"kernel": jnp.zeros((4, 6))}, "b": jnp.zeros(())}
    axes = {"a": {"kernel": ("embed", "mlp")}, "b": ()}
    assert shardings(axes, shapes, mesh) == {
        "a": {"kernel": NamedSharding(mesh, P("fsdp", "tensor"))},
        "b": NamedSharding(mesh, P()),
    }
    with pytest.raises(InputError, match=r"^a/kernel: .*does not divide"):
        shardings(axes, {"a": {"kernel": jnp.zeros((3, 6))}, "b": jnp.zeros(())}, mesh)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([*sorted(MESH_AXES), None]), max_size=4),
    st.lists(st.integers(1, 12), min_size=4, max_size=4),
    st.sampled_from([(1, 1, 1), (2, 2, 2), (4, 1, 2), (1, 8, 1)]),
)
def test_a_specification_either_places_an_array_or_is_refused(names, sizes, axes):
    mesh, shape = mesh_of(*axes), tuple(sizes[: len(names)])
    try:
        spec = specification(names, shape, mesh)
    except InputError:
        assert mesh.size > 1
        return
    NamedSharding(mesh, spec).shard_shape(shape)


def test_constrain_places_the_batch_and_keeps_the_values():
    x = jnp.arange(8 * 3 * 4.0).reshape(8, 3, 4)
    with jax.set_mesh(mesh_of(2, 2, 2)):
        y = jax.jit(lambda x: constrain(x * 2, ("batch", "length", "mlp")))(x)
    assert y.sharding.spec == P(("data", "fsdp"), None, "tensor")
    np.testing.assert_array_equal(y, x * 2)


def test_constrain_leaves_alone_what_it_cannot_place():
    x = jnp.ones((3, 4))
    assert constrain(x, ("batch", "features")) is x
    with jax.set_mesh(mesh_of(1, names=("data",))):
        assert constrain(x, ("batch", "features")) is x
    with jax.set_mesh(mesh_of(2, 2, 2)):
        np.testing.assert_array_equal(jax.jit(lambda x: constrain(x, ("batch", "features")))(x), x)
    with pytest.raises(ValueError, match="axis names"):
        constrain(x, ("batch",))


def test_constrain_inside_shard_map_leaves_manual_axes_alone():
    with jax.set_mesh(mesh_of(2, 2, 2)):

        @jax.jit
        def run(x):
            return jax.shard_map(
                lambda x: constrain(x + 1, ("batch", "mlp")),
                in_specs=P(("data", "fsdp")),
                out_specs=P(("data", "fsdp")),
                axis_names={"data", "fsdp"},
            )(x)

        np.testing.assert_array_equal(run(jnp.zeros((8, 4))), np.ones((8, 4)))


def test_constrain_copies_nothing_to_axes_that_it_does_not_know():
    mesh = jax.make_mesh((2, 4), ("replica", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    where = NamedSharding(mesh, P(("replica", "fsdp")))
    x = jax.device_put(jnp.ones((8, 4)), where)
    with jax.set_mesh(mesh):
        assert jax.jit(lambda x: constrain(x * 2, ("batch", "mlp")))(x).sharding.is_equivalent_to(where, 2)
