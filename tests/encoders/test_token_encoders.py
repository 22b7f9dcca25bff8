"""The encoders of BERT's and ModernBERT's families."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive_jax.distributed.sharding import shardings
from contrastive_jax.encoders import Bert, ModernBert, bert, modernbert
from contrastive_jax.encoders.token_encoder import stack
from contrastive_jax.errors import InputError

SMALL = dict(size="micro", width=16, depth=2, heads=2, vocabulary=20, length=9, unroll=1)
ENCODERS = {
    "bert": Bert(**SMALL, padding=1, offset=2, relative_buckets=8),
    "modernbert": ModernBert(**SMALL, padding=1, window=4, every=2, theta=100.0, local_theta=10.0),
}
# The buckets of 8, by the distance from a query (row) to a key: 0, 1 and more before it, 1 and more after it.
NAMED = {0: 0, -1: 1, 1: 5}
BUCKETS = np.array([[NAMED.get(j - i, 6 if j > i else 2) for j in range(6)] for i in range(6)])
BOTH_WHEN_SLOW = pytest.mark.parametrize(
    "made", ["bert", pytest.param("modernbert", marks=pytest.mark.slow)], indirect=True
)
LENGTHS = np.array([6, 1, 3, 4, 5, 2, 6, 3])


@pytest.fixture(scope="module")
def texts():
    """Eight texts [8, 6] that end with padding, which is 1."""
    words = np.random.default_rng(0).integers(2, 20, (8, 6))
    return jnp.asarray(np.where(np.arange(6) < LENGTHS[:, None], words, 1), jnp.int32)


@pytest.fixture(scope="module", params=ENCODERS)
def made(request, texts):
    """An encoder and parameters, all of them random."""
    encoder = ENCODERS[request.param]
    draw = np.random.default_rng(1)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), texts)
    return encoder, jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32) * 0.3, shapes)


def run(encoder, params, texts):
    return jax.jit(lambda p: encoder.apply(p, texts, train=False, key=None))(params)


def test_padding_changes_nothing_and_an_empty_text_is_finite(made, texts):
    encoder, params = made
    apply = jax.jit(lambda view: encoder.apply(params, view, train=False, key=None))
    empty = texts.at[2].set(1)
    out, longer = apply(empty), apply(jnp.pad(empty, ((0, 0), (0, 3)), constant_values=1))
    np.testing.assert_allclose(longer.embedding, out.embedding, atol=1e-5)
    assert np.isfinite(out.embedding).all()
    np.testing.assert_array_equal(out.mask.sum(1), np.where(np.arange(8) == 2, 0, LENGTHS))
    np.testing.assert_array_equal(out.mask, out.pool_mask)
    mean = (out.tokens * out.mask[..., None]).sum(1) / np.maximum(out.mask.sum(1), 1)[:, None]
    np.testing.assert_allclose(out.embedding, mean, atol=1e-6)
    first = run(dataclasses.replace(encoder, pooling="cls"), params, empty)
    np.testing.assert_allclose(first.embedding, out.tokens[:, 0], atol=1e-6)


def test_the_scan_over_blocks_is_a_loop_over_blocks(made, texts):
    encoder = dataclasses.replace(made[0], dropout=0.2)
    params, keys = made[1]["blocks"], jax.random.split(jax.random.key(3), 8)
    x, real = jax.random.normal(jax.random.key(4), (8, 6, 16)), texts != 1
    if isinstance(encoder, Bert):
        block, inputs = bert.Block, (real[:, None, None, :], jnp.ones((1, 2, 6, 6)), keys)
    else:
        block, inputs = modernbert.Block, (real, keys)
    scanned, _ = jax.jit(stack(block, encoder, len(inputs)).apply)(
        {"params": params}, x, jnp.arange(2), *inputs
    )
    one, looped = jax.jit(block(encoder).apply), x
    for i in range(2):
        looped, _ = one({"params": jax.tree.map(lambda p, i=i: p[i], params)}, looped, i, *inputs)
    np.testing.assert_allclose(scanned, looped, atol=2e-5)


@BOTH_WHEN_SLOW
def test_meshes_and_remat_change_no_gradient(made, texts):
    encoder, params = dataclasses.replace(made[0], dropout=0.1), made[1]
    other, keys = dataclasses.replace(encoder, remat=True), jax.random.split(jax.random.key(3), 8)

    def slope_of(encoder, params, texts, keys):
        def total(p):
            out = encoder.apply(p, texts, train=True, key=keys).embedding
            return jnp.sum(jnp.cos(out) * jnp.arange(16.0)), out

        return jax.jit(jax.grad(total, has_aux=True))(params)

    gradient, out = slope_of(encoder, params, texts, keys)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    batch = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    with jax.set_mesh(mesh):
        there = jax.device_put(params, shardings(encoder.logical_axes(texts), params, mesh))
        slope, apart = slope_of(other, there, *jax.device_put((texts, keys), batch))
    np.testing.assert_allclose(apart, out, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-3), slope, gradient)


@BOTH_WHEN_SLOW
def test_what_is_dropped_of_an_example_does_not_depend_on_its_batch(made, texts):
    encoder, params = dataclasses.replace(made[0], dropout=0.3), made[1]
    keys, order = jax.random.split(jax.random.key(3), 8), jnp.array([3, 0, 7, 1, 6, 2, 5, 4])
    apply = jax.jit(lambda v, k: encoder.apply(params, v, train=True, key=k).embedding)
    whole = apply(texts, keys)
    np.testing.assert_allclose(apply(texts[order], keys[order]), whole[order], atol=1e-5)
    assert np.abs(apply(texts, keys[order]) - whole).max() > 0.1
    with pytest.raises(ValueError, match="needs a key"):
        encoder.apply(params, texts, train=True, key=None)


@BOTH_WHEN_SLOW
def test_bfloat16_computes_what_float32_does(made, texts):
    encoder, params = made
    one, two = (run(dataclasses.replace(encoder, dtype=d), params, texts) for d in ("float32", "bfloat16"))
    assert (two.embedding.dtype, two.tokens.dtype) == (jnp.float32, jnp.bfloat16)
    error = np.linalg.norm(one.embedding - two.embedding) / np.linalg.norm(one.embedding)
    assert 0 < error < 0.03


def test_one_block_of_bert_by_hand(texts):
    encoder = Bert(**{**SMALL, "depth": 1}, padding=1, offset=2, relative_buckets=8, pooling="pooler")
    draw, shapes = np.random.default_rng(2), jax.eval_shape(encoder.init, jax.random.key(0), texts)
    p = jax.tree.map(lambda x: draw.normal(size=x.shape) * 0.5, shapes)
    out = run(encoder, jax.tree.map(jnp.float32, p), texts)

    def norm(x, p):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * p["scale"] + p["bias"]

    gelu = np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / 2**0.5)))
    block, ids = jax.tree.map(lambda x: x[0], p["blocks"]), np.asarray(texts)[0]
    x = norm(p["words"]["embedding"][ids] + p["position"][2:8] + p["types"][0], p["norm"])
    q, k, v = (
        np.einsum("tw,wnhk->nthk", x, block["attention"]["qkv"]["kernel"])
        + (block["attention"]["qkv"]["bias"][:, None])
    )
    logits = np.einsum("thk,shk->hts", q, k) / 8**0.5 + p["relative"][BUCKETS].transpose(2, 0, 1)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    y = np.einsum("hts,shk,hkw->tw", weights, v, block["attention"]["out"]["kernel"])
    x = norm(x + y + block["attention"]["out"]["bias"], block["attention_norm"])
    y = gelu(x @ block["mlp"]["in"]["kernel"] + block["mlp"]["in"]["bias"])
    x = norm(x + y @ block["mlp"]["out"]["kernel"] + block["mlp"]["out"]["bias"], block["mlp_norm"])
    np.testing.assert_allclose(out.tokens[0], x, atol=2e-5)
    pooled = np.tanh(x[0] @ p["pooler"]["kernel"] + p["pooler"]["bias"])
    np.testing.assert_allclose(out.embedding[0], pooled, atol=2e-5)


def test_far_buckets_grow_geometrically():
    row = bert.buckets(200, 32)[0]
    np.testing.assert_array_equal(row[:8], [0, *range(17, 24)])
    starts = [int(np.argmax(row == bucket)) for bucket in range(24, 32)]
    np.testing.assert_array_equal(starts, [8, 12, 16, 23, 32, 46, 64, 91])  # 8 x 16^(k / 8), rounded up
    np.testing.assert_array_equal(bert.buckets(200, 32)[:, 0][1:], row[1:] - 16)


def test_rotations_are_products_of_complex_numbers():
    x = np.random.default_rng(0).normal(size=(2, 7, 3, 8)).astype(np.float32)
    complex_x = x[..., :4] + 1j * x[..., 4:]
    turned = complex_x * np.exp(1j * np.arange(7)[:, None, None] * 50.0 ** (-np.arange(4) / 4))
    wanted = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(modernbert.rotate(jnp.asarray(x), 50.0), wanted, atol=1e-5)


def test_a_local_block_sees_its_window():
    encoder, real = ENCODERS["modernbert"], jnp.ones((1, 9), bool)
    block, x = modernbert.Block(encoder), jax.random.normal(jax.random.key(4), (1, 9, 16))
    params = jax.jit(block.init)(jax.random.key(0), x, 0, real, None)

    @jax.jit
    def seen(layer):
        middle = jax.grad(lambda x: block.apply(params, x, layer, real, None)[0][0, 4].sum())(x)
        return jnp.abs(middle[0]).max(-1) > 0

    for layer, reach in ((0, 9), (1, 2), (2, 9)):
        np.testing.assert_array_equal(seen(layer), np.abs(np.arange(9) - 4) <= reach)


def test_one_block_of_modernbert_by_hand(texts):
    encoder = ModernBert(**{**SMALL, "depth": 1}, padding=1)
    draw, shapes = np.random.default_rng(2), jax.eval_shape(encoder.init, jax.random.key(0), texts)
    p = jax.tree.map(lambda x: draw.normal(size=x.shape) * 0.5, shapes)
    out = run(encoder, jax.tree.map(jnp.float32, p), texts)

    def norm(x, p):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"]

    def rotated(x):
        return np.asarray(modernbert.rotate(jnp.asarray(x)[None], 160_000.0)[0], np.float64)

    gelu = np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / 2**0.5)))
    block = jax.tree.map(lambda x: x[0], p["blocks"])
    x = norm(p["words"]["embedding"][np.asarray(texts)[0]], p["embedding_norm"])
    q, k, v = np.einsum("tw,wnhk->nthk", x, block["attention"]["qkv"]["kernel"])  # no norm in the first
    logits = np.einsum("thk,shk->hts", rotated(q), rotated(k)) / 8**0.5
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    x = x + np.einsum("hts,shk,hkw->tw", weights, v, block["attention"]["out"]["kernel"])
    one, two = np.einsum("tw,wgm->gtm", norm(x, block["mlp_norm"]), block["mlp"]["in"]["kernel"])
    x = x + (gelu(one) * two) @ block["mlp"]["out"]["kernel"]
    np.testing.assert_allclose(out.tokens[0], norm(x, p["norm"]), atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "keywords", "words"),
    [
        (Bert, {"vocabulary": 0}, "vocabulary: 0 is not possible"),
        (Bert, {"padding": 20}, "padding: 20 is not a token id below vocabulary=20"),
        (Bert, {"pooling": "map"}, "pooling: 'map' is not one of cls, mean, pooler"),
        (Bert, {"relative_buckets": 6}, "relative_buckets: 6 is not a multiple of 4"),
        (Bert, {"types": -1}, "types: -1 is not possible"),
        (Bert, {"activation": "elu"}, "activation: 'elu' is not one of"),
        (ModernBert, {"pooling": "pooler"}, "pooling: 'pooler' is not one of cls, mean"),
        (ModernBert, {"every": 0}, "every: 0 is not possible"),
        (ModernBert, {"local_theta": 0.0}, "local_theta: 0.0 is not possible"),
        (ModernBert, {"width": 6}, "heads: 2 of width 6 have an odd size"),
        (ModernBert, {"epsilon": 0.0}, "epsilon: 0.0 is not possible"),
        (ModernBert, {"dropout": 1.0}, "dropout: 1.0 is not a rate"),
    ],
)
def test_wrong_values_are_refused_by_name(kind, keywords, words):
    with pytest.raises(InputError) as raised:
        kind(**{**SMALL, **keywords})
    assert words in str(raised.value)


def test_texts_that_do_not_fit_are_refused():
    for shape, words in (
        ((2, 10), "length: 9 is less than the 10 tokens"),
        ((2, 3, 4), "token ids of shape"),
    ):
        with pytest.raises(InputError, match=words):
            ENCODERS["bert"].init(jax.random.key(0), jnp.zeros(shape, jnp.int32))
