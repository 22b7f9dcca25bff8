"""What both encoders share: the boundary, the scan over blocks, dropout, pooling, precision, meshes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive_jax.distributed.sharding import shardings, specification
from contrastive_jax.encoders import KINDS
from contrastive_jax.encoders.architecture import SIZES
from contrastive_jax.encoders.block import Block
from contrastive_jax.encoders.transformer import stack
from contrastive_jax.errors import InputError


def is_names(leaf):
    return isinstance(leaf, tuple)


@pytest.mark.parametrize("pooling", ["cls", "mean", "map"])
def test_what_an_encoder_gives_back(tower, parameters, pooling):
    maker, view = tower
    encoder = maker(pooling=pooling)
    params = parameters(encoder)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    out = encoder.apply(params, view, train=False, key=None)
    length = (4 if view.ndim == 4 else 6) + (pooling == "cls")
    assert out.embedding.shape == (8, 32)
    assert out.embedding.dtype == jnp.float32
    assert out.tokens.shape == (8, length, 32)
    assert out.mask.shape == out.pool_mask.shape == (8, length)
    assert out.mask.dtype == out.pool_mask.dtype == bool
    assert out.extras == {}
    assert np.isfinite(out.embedding).all()
    assert len(np.unique(np.asarray(out.embedding), axis=0)) == 8


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"resnet"}))
@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_size_has_names_for_all_its_axes_and_fits_meshes(kind, size):
    words = {} if kind == "vision_transformer" else {"vocabulary": 384}
    encoder = KINDS[kind](size=size, **words)
    shape, dtype = ((4, 32, 32, 3), jnp.uint8) if kind == "vision_transformer" else ((4, 16), jnp.int32)
    view = jax.ShapeDtypeStruct(shape, dtype)
    params = jax.eval_shape(encoder.init, jax.random.key(0), view)
    axes = encoder.logical_axes(view)
    assert jax.tree.structure(params) == jax.tree.structure(axes, is_leaf=is_names)
    named = zip(jax.tree.leaves(params), jax.tree.leaves(axes, is_leaf=is_names), strict=True)
    assert all(leaf.ndim == len(names) for leaf, names in named)
    heads = SIZES[size].heads
    mesh = jax.sharding.AbstractMesh((2, 4, heads), ("data", "fsdp", "tensor"))
    jax.tree.map(lambda leaf, names: specification(names, leaf.shape, mesh), params, axes)
    out = jax.eval_shape(lambda p, v: encoder.apply(p, v, train=False, key=None), params, view)
    assert out.embedding.shape == (4, SIZES[size].width)


def test_the_scan_over_blocks_is_a_loop_over_blocks(text, texts, parameters):
    encoder = text(unroll=2, dropout=0.2, drop_path=0.3)
    params, architecture = parameters(encoder)["transformer"]["blocks"], encoder.architecture()
    keys = jax.random.split(jax.random.key(3), 8)
    x = jax.random.normal(jax.random.key(4), (8, 6, 32))
    scanned, _ = stack(architecture).apply({"params": params}, x, jnp.arange(3), texts != 0, keys)
    looped = x
    for i in range(3):
        layer = jax.tree.map(lambda p, i=i: p[i], params)
        looped, _ = Block(architecture).apply({"params": layer}, looped, i, texts != 0, keys)
    np.testing.assert_allclose(scanned, looped, atol=2e-5)


def test_every_block_draws_apart(text, texts, parameters):
    encoder = text(dropout=0.5)
    layer = jax.tree.map(lambda p: p[0], parameters(encoder)["transformer"]["blocks"])
    keys, x = jax.random.split(jax.random.key(3), 8), jax.random.normal(jax.random.key(4), (8, 6, 32))
    apply = jax.jit(lambda i: Block(encoder.architecture()).apply({"params": layer}, x, i, None, keys)[0])
    assert np.abs(apply(1) - apply(0)).max() > 0.1


def test_layers_do_not_start_alike(text, parameters):
    kernel = parameters(text())["transformer"]["blocks"]["mlp"]["in"]["kernel"]
    assert kernel.shape == (3, 32, 128)
    assert not np.allclose(kernel[0], kernel[1])
    np.testing.assert_allclose(kernel.std(), 32**-0.5, rtol=0.05)


def embedding_and_gradient(encoder, params, view, keys):
    def total(p):
        out = encoder.apply(p, view, train=True, key=keys)
        return jnp.sum(jnp.cos(out.embedding) * jnp.arange(32.0)), out.embedding

    gradient, embedding = jax.jit(jax.grad(total, has_aux=True))(params)
    return embedding, gradient


def assert_close(one, two, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance), one, two)


def test_remat_and_unrolling_change_no_gradient(text, texts, parameters):
    plain = text(dropout=0.1, drop_path=0.1)
    params, keys = parameters(plain), jax.random.split(jax.random.key(3), 8)
    other = dataclasses.replace(plain, remat=True, unroll=2)
    for encoder, times in ((plain, 0), (other, 1)):
        assert remats(encoder, params, texts, keys) == times
    one, two = (embedding_and_gradient(e, params, texts, keys) for e in (plain, other))
    assert_close(one, two, 1e-3)


def remats(encoder, params, view, keys):
    jaxpr = jax.make_jaxpr(lambda p: encoder.apply(p, view, train=True, key=keys))(params)
    return str(jaxpr).count("prevent_cse=")


def test_what_is_dropped_of_an_example_does_not_depend_on_its_batch(tower, parameters):
    maker, view = tower
    encoder = maker(dropout=0.3, drop_path=0.5)
    params, keys = parameters(encoder), jax.random.split(jax.random.key(3), 8)
    apply = jax.jit(lambda v, k: encoder.apply(params, v, train=True, key=k).embedding)
    whole = apply(view, keys)
    order = jnp.array([3, 0, 7, 1, 6, 2, 5, 4])
    np.testing.assert_allclose(apply(view[order], keys[order]), whole[order], atol=1e-5)
    halves = jnp.concatenate([apply(view[:4], keys[:4]), apply(view[4:], keys[4:])])
    np.testing.assert_allclose(halves, whole, atol=1e-5)
    assert np.abs(apply(view, keys[order]) - whole).max() > 0.1


def test_without_training_nothing_is_dropped(text, texts, parameters):
    encoder, keys = text(dropout=0.3, drop_path=0.5), jax.random.split(jax.random.key(3), 8)
    params = parameters(encoder)
    still = encoder.apply(params, texts, train=False, key=None).embedding
    np.testing.assert_array_equal(encoder.apply(params, texts, train=False, key=keys).embedding, still)
    assert np.abs(encoder.apply(params, texts, train=True, key=keys).embedding - still).max() > 0.1
    with pytest.raises(ValueError, match="needs a key"):
        encoder.apply(params, texts, train=True, key=None)


def test_bfloat16_computes_what_float32_does(tower, parameters):
    maker, view = tower
    full, half = maker(pooling="map"), maker(pooling="map", dtype="bfloat16")
    params = parameters(full)
    shapes = jax.eval_shape(half.init, jax.random.key(0), view)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    one, two = (e.apply(params, view, train=False, key=None) for e in (full, half))
    assert two.embedding.dtype == jnp.float32
    assert two.tokens.dtype == jnp.bfloat16
    error = np.linalg.norm(one.embedding - two.embedding) / np.linalg.norm(one.embedding)
    assert 0 < error < 0.02


def test_eight_devices_compute_what_one_does(tower, parameters):
    maker, view = tower
    encoder = maker(pooling="map") if view.ndim == 4 else maker(pooling="cls", dropout=0.1)
    params, keys = parameters(encoder), jax.random.split(jax.random.key(3), 8)
    embedding, gradient = embedding_and_gradient(encoder, params, view, keys)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    batch = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    with jax.set_mesh(mesh):
        there = jax.device_put(params, shardings(encoder.logical_axes(view), params, mesh))
        out, slope = embedding_and_gradient(encoder, there, *jax.device_put((view, keys), batch))
    assert out.sharding.is_equivalent_to(batch, 2)
    assert_close(out, embedding, 1e-5)
    assert_close(slope, gradient, 1e-3)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"size": "XL"}, "size: 'XL' is not a size; choose one of micro, Ti, S, B, L"),
        ({"pooling": "max"}, "pooling: 'max' is not one of"),
        ({"dtype": "float16"}, "dtype: 'float16' is not one of"),
        ({"dropout": 1.0}, "dropout: 1.0 is not a rate"),
        ({"drop_path": -0.1}, "drop_path: -0.1 is not a rate"),
        ({"depth": 0}, "depth: 0 is not possible"),
        ({"width": 30}, "heads: 4 does not divide width 30"),
        ({"unroll": 0}, "unroll: 0 is not possible"),
    ],
)
def test_wrong_values_are_refused_by_name(tower, keywords, words):
    with pytest.raises(InputError) as raised:
        tower[0](**keywords)
    assert words in str(raised.value)
