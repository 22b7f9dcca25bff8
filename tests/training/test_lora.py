"""Low-rank adapters against the dense formula; merged they are the same model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import altered, experiment, made_up_batch, read_in_pieces

from contrastive_jax.errors import InputError
from contrastive_jax.training import lora
from contrastive_jax.training.lora import Adapter
from contrastive_jax.training.pieces import whole_gradient
from contrastive_jax.training.step import gradients
from contrastive_jax.training.structure import named_leaves

ADAPTERS = {
    "attention": Adapter("encoders/*/attention/*/kernel", rank=2, alpha=6.0),
    "pixels": Adapter("encoders/image/patches/*", rank=3, alpha=1.5),
}
FROZEN = ("encoders/image/transformer/blocks/mlp/*",)
KEY = 3


@pytest.fixture(scope="module")
def base():
    return experiment("glyphs_faces.py:small", batch_size=16)


def made_up(structure, seed=0):
    """Parameters in float64, adapters that do something among them."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: 0.1 * rng.standard_normal(x.shape), structure)


def dense(weight, a, b, alpha):
    """W + alpha / r A B with everything flattened to matrices, one layer after the other."""
    rank = a.shape[-1]
    layers = weight.shape[0] if a.ndim + b.ndim - 2 > weight.ndim else 1
    a, b = a.reshape(layers, -1, rank), b.reshape(layers, rank, -1)
    return weight + alpha / rank * np.stack([x @ y for x, y in zip(a, b)]).reshape(weight.shape)


def by_chain_rule(a, b, gradient, alpha):
    """The gradients of A and B from that of the dense matrix."""
    rank, layers = a.shape[-1], gradient.shape[0] if a.ndim + b.ndim - 2 > gradient.ndim else 1
    flat_a, flat_b = a.reshape(layers, -1, rank), b.reshape(layers, rank, -1)
    g = np.asarray(gradient).reshape(layers, flat_a.shape[1], flat_b.shape[2])
    scale = alpha / rank
    return (
        scale * np.stack([x @ y.T for x, y in zip(g, flat_b)]).reshape(a.shape),
        scale * np.stack([x.T @ y for x, y in zip(flat_a, g)]).reshape(b.shape),
    )


def in_core(run, params, batch):
    def of(params, batch):
        key, microbatch = jax.random.key(KEY), run.config.microbatch
        return gradients(run.graph, run.losses, params, batch, key, microbatch, run.trainable)

    with jax.set_mesh(run.mesh):
        return jax.jit(of)(params, batch)


def out_of_core(run, params, batch):
    with jax.set_mesh(run.mesh):
        params = jax.device_put(params, run.state_shardings.params)
        found, own, pulled, _ = run.out_of_core_step.gradients(
            params, jax.random.key(KEY), read_in_pieces(run, batch), ahead=0
        )
    return found, whole_gradient(own, pulled)


@pytest.mark.parametrize(
    ("devices", "config", "mesh"),
    [
        (2, {"microbatch": 4, "mode": "out_of_core"}, {}),
        pytest.param(8, {"microbatch": 2}, {"fsdp": 2, "tensor": 2}, marks=pytest.mark.slow),
        pytest.param(1, {}, {}, marks=pytest.mark.slow),
        pytest.param(
            8, {"microbatch": 2, "mode": "out_of_core"}, {"fsdp": 2, "tensor": 2}, marks=pytest.mark.slow
        ),
    ],
)
def test_the_gradient_is_that_of_the_dense_formula(wanted, devices, config, mesh):
    """Projections to heads and from them, stacked layers, a table; on any mesh, in pieces."""
    params, value, full = wanted
    overrides = {f"mesh__{axis}": size for axis, size in mesh.items()}
    with jax.enable_x64(True):
        run = experiment("glyphs_faces.py:small", devices, batch_size=16, **overrides)
        run = altered(run, devices, lora=ADAPTERS, frozen=FROZEN, **config)
        way = out_of_core if "mode" in config else in_core
        (loss, _), found = way(run, params, made_up_batch(run))
    assert float(loss) == pytest.approx(value, rel=1e-5)
    found, full = named_leaves(found), named_leaves(full)
    adapted = params["lora"]
    assert not set(adapted) & set(found)
    trained = {name for name in full if run.trainable.trains(name)}
    assert trained == set(full) - set(adapted) - {n for n in full if n.startswith(FROZEN[0][:-1])}
    assert {n for n in found if not n.startswith("lora/")} == trained
    for name, pair in adapted.items():
        alpha = run.trainable.alphas[name]
        for side, expected in zip("ab", by_chain_rule(pair["a"], pair["b"], full[name], alpha)):
            got = found[f"lora/{name}/{side}"]
            np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-6, err_msg=name)
    for name in trained:
        np.testing.assert_allclose(found[name], full[name], rtol=2e-4, atol=2e-6, err_msg=name)


@pytest.fixture(scope="module")
def wanted(base):
    """Parameters with adapters, and the loss and gradient of the dense model that they stand for."""
    with jax.enable_x64(True):
        run = altered(base, lora=ADAPTERS)
        params = made_up(run.state_structure.params)
        flat = named_leaves({k: v for k, v in params.items() if k != "lora"})
        for name, pair in params["lora"].items():
            flat[name] = dense(flat[name], pair["a"], pair["b"], run.trainable.alphas[name])
        leaves, shape = jax.tree.flatten({k: v for k, v in params.items() if k != "lora"})
        assert len(leaves) == len(flat)
        model = jax.tree.unflatten(shape, list(flat.values()))
        merged = run.trainable.merged(params)
        for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(model), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        (value, _), full = in_core(base, model, made_up_batch(base))
        return params, float(value), jax.device_get(full)


def test_step_0_is_the_base(base):
    run = altered(base, lora=ADAPTERS)
    params = made_up(base.state_structure.params)
    new = lora.init(jax.random.key(0), run.adapted)
    assert all(np.any(pair["a"]) for pair in new.values())
    merged = run.trainable.merged({**params, "lora": new})
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7)


@pytest.mark.slow
def test_steps_change_adapters_alone(base):
    run = altered(base, lora=ADAPTERS, frozen=("encoders/*", "heads/*", "losses/*"))
    state = run.initial_state()
    before, model = jax.device_get((named_leaves(state.params), run.merged(state.params)))
    with jax.set_mesh(run.mesh):
        step = run.train_step()
        for _ in range(3):
            state, _ = step(state, made_up_batch(run))
    for name, array in named_leaves(state.params).items():
        assert np.array_equal(array, before[name]) != name.startswith("lora/"), name
    moved = run.merged(state.params)["encoders"]["image"]["patches"]["kernel"]
    assert np.any(moved != model["encoders"]["image"]["patches"]["kernel"])


@given(
    shape=st.sampled_from(
        [
            (("embed", "mlp"), (6, 8), 1),
            (("layers", "mlp", "embed"), (3, 8, 6), 1),
            (("layers", "embed", "projections", "heads", "kv"), (2, 6, 3, 2, 3), 1),
            (("heads", "kv", "embed"), (2, 3, 5), 2),
        ]
    ),
    rank=st.integers(1, 4),
    alpha=st.floats(0.1, 30),
)
def test_merging_a_matrix(shape, rank, alpha):
    axes, sizes, inner = shape
    assert lora.inner_axes(axes) == inner
    matrices = {"w": lora.Matrix(Adapter("w", rank, alpha), sizes, axes, inner)}
    made = lora.init(jax.random.key(0), matrices)["w"]
    assert not np.any(made["b"])
    assert jax.tree.map(jnp.ndim, made) == jax.tree.map(
        len, lora.logical_axes(matrices)["w"], is_leaf=lambda x: isinstance(x, tuple)
    )
    rng = np.random.default_rng(rank)
    a, b = (rng.standard_normal(made[side].shape) for side in "ab")
    weight = rng.standard_normal(sizes)
    with jax.enable_x64(True):
        np.testing.assert_allclose(lora.merge(weight, a, b, alpha), dense(weight, a, b, alpha), rtol=1e-12)


def test_adapters_lie_as_their_matrices_do():
    run = altered(
        experiment("glyphs_faces.py:small", 8, mesh__data=1, mesh__fsdp=4, mesh__tensor=2), 8, lora=ADAPTERS
    )
    spec = {n: tuple(x.sharding.spec) for n, x in named_leaves(run.state_structure.params).items()}
    name = "encoders/image/transformer/blocks/attention/qkv/kernel"
    assert spec[name] == (None, "fsdp", None, "tensor")
    assert spec[f"lora/{name}/a"] == (None, "fsdp")
    assert spec[f"lora/{name}/b"] == (None, None, None, "tensor")


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        (
            {"tower": Adapter("encoders/imge/*")},
            r"config\.lora\.tower\.parameters=.*did you mean encoders/image/\*",
        ),
        ({"all": Adapter("encoders/*/norm/*")}, r"config\.lora\.all\.parameters=.*no matrix"),
        ({"head": Adapter("heads/*")}, r"config\.lora\.head\.parameters=heads/\*: no matrix of an encoder"),
        (
            {"a": Adapter("encoders/image/*", 2), "b": Adapter("*/attention/*", 2)},
            r"config\.lora\.b\.parameters: encoders/image/.* is config\.lora\.a's already",
        ),
        (
            {"tower": Adapter("encoders/image/*", rank=32)},
            r"config\.lora\.tower\.rank=32: .* has rank \d+ itself",
        ),
    ],
)
def test_adapters_that_cannot_be_meant(base, adapters, message):
    with pytest.raises(InputError, match=message):
        altered(base, lora=adapters)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}])
def test_numbers_of_an_adapter(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}=0"):
        Adapter("*", **wrong)
