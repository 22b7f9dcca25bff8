"""The options by which our transformers become those of other libraries, each by its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from contrastive_jax.encoders.architecture import ACTIVATIONS
from contrastive_jax.encoders.block import MLP, Block
from contrastive_jax.errors import InputError

DRAW = np.random.default_rng(0)


def drawn(shapes):
    """Parameters of these shapes, none of them 0, without the names of their axes."""
    shapes = nn.unbox(shapes)
    return jax.tree.map(lambda leaf: jnp.asarray(DRAW.normal(size=leaf.shape) * 0.3, jnp.float32), shapes)


def made(encoder, view):
    """Parameters of an encoder, without compiling how it starts."""
    return drawn(jax.eval_shape(encoder.init, jax.random.key(0), view))


def encode(encoder, params, view):
    return jax.jit(lambda params: encoder.apply(params, view, train=False, key=None))(params)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(vision, name):
    module = MLP(vision(activation=name).architecture())
    x = jnp.asarray(DRAW.normal(size=(2, 3, 32)), jnp.float32)
    params = drawn(jax.eval_shape(module.init, jax.random.key(0), x)["params"])
    y = jnp.tensordot(x, params["in"]["kernel"], 1) + params["in"]["bias"]
    erf = 0.5 * y * (1 + jax.scipy.special.erf(y / np.sqrt(2)))
    tanh = 0.5 * y * (1 + jnp.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    known = {"gelu": erf, "gelu_tanh": tanh, "quick_gelu": y / (1 + jnp.exp(-1.702 * y))}
    if name == "swiglu":
        assert y.shape[-2] == 2
        known["swiglu"] = y[..., 0, :] / (1 + jnp.exp(-y[..., 0, :])) * y[..., 1, :]
    wanted = known[name] @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(module.apply({"params": params}, x), wanted, atol=1e-4)


def test_layer_scale_multiplies_both_branches(vision):
    x = jnp.asarray(DRAW.normal(size=(2, 3, 32)), jnp.float32)
    plain, scaled = (Block(vision(layer_scale=scale).architecture()) for scale in (None, 0.5))
    params = drawn(jax.eval_shape(scaled.init, jax.random.key(0), x, 0, None, None)["params"])

    def run(block, params):
        return block.apply({"params": params}, x, 0, None, None)[0]

    ones = {**params, "attention_scale": jnp.ones(32), "mlp_scale": jnp.ones(32)}
    bare = {name: part for name, part in params.items() if not name.endswith("_scale")}
    np.testing.assert_allclose(run(scaled, ones), run(plain, bare), atol=1e-5)
    none = {**params, "attention_scale": jnp.zeros(32), "mlp_scale": jnp.zeros(32)}
    np.testing.assert_array_equal(run(scaled, none), x)
    first = {**none, "attention_scale": jnp.full(32, 3.0)}
    half = {**none, "attention_scale": jnp.full(32, 1.5)}
    np.testing.assert_allclose(run(scaled, first) - x, 2 * (run(scaled, half) - x), atol=1e-4)


def test_registers_stand_after_the_class_token_and_are_no_part_of_a_mean(vision, images):
    for pooling, at in (("cls", 1), ("mean", 0)):
        encoder = vision(pooling=pooling, registers=3)
        out = encode(encoder, made(encoder, images), images)
        assert out.tokens.shape[1] == at + 3 + 4
        wanted = [False] * (at + 3) + [True] * 4
        assert (np.asarray(out.pool_mask) == wanted).all()
        assert out.mask.all()


def test_a_norm_before_the_blocks_forgets_the_size_of_what_comes_in(vision, images):
    encoder = vision(first_norm=True, epsilon=1e-12)
    params = made(encoder, images)
    larger = jax.tree.map(lambda x: x, params)
    larger["patches"] = jax.tree.map(lambda x: 7 * x, params["patches"])
    larger["transformer"] = {**params["transformer"], "position": 7 * params["transformer"]["position"]}
    one, seven = (encode(encoder, p, images).embedding for p in (params, larger))
    np.testing.assert_allclose(one, seven, atol=1e-3)


def test_bytes_become_what_mean_and_deviation_say(vision, images):
    own, other = vision(), vision(mean=(0.2,), std=(0.3,))
    params = made(own, images)
    for encoder, pixels in ((own, images / 127.5 - 1), (other, (images / 255 - 0.2) / 0.3)):
        wanted = encode(encoder, params, pixels.astype(jnp.float32)).embedding
        np.testing.assert_allclose(encode(encoder, params, images).embedding, wanted, atol=1e-4)


def test_a_matrix_of_patches_without_a_bias(vision, images):
    encoder = vision(patch_bias=False)
    assert set(made(encoder, images)["patches"]) == {"kernel"}


def test_a_text_ends_at_its_first_end_whatever_comes_after(text):
    encoder = text(pooling="last", causal=True, end=19)
    view = jnp.array([[5, 0, 7, 19, 0, 0], [5, 0, 7, 19, 19, 3], [5, 0, 7, 8, 9, 1]])
    out = encode(encoder, made(encoder, view), view)
    assert out.mask.sum(1).tolist() == [4, 4, 6]
    np.testing.assert_allclose(out.embedding[0], out.embedding[1], atol=1e-6)
    np.testing.assert_allclose(out.embedding[0], out.tokens[0, 3], atol=1e-6)
    np.testing.assert_allclose(out.embedding[2], out.tokens[2, 5], atol=1e-6)


def test_another_padding_and_none(text):
    view = jnp.array([[5, 6, 7, 1], [5, 6, 0, 7]])
    for padding, lengths in ((1, [3, 4]), (None, [4, 4])):
        encoder = text(pooling="last", padding=padding)
        out = encode(encoder, made(encoder, view), view)
        assert out.mask.sum(1).tolist() == lengths
        rows = jnp.arange(2)
        np.testing.assert_allclose(out.embedding, out.tokens[rows, jnp.array(lengths) - 1], atol=1e-6)


@pytest.mark.parametrize(
    ("maker", "keywords", "words"),
    [
        ("vision", {"activation": "relu"}, "activation: 'relu' is not one of gelu_tanh, gelu"),
        ("vision", {"epsilon": 0.0}, "epsilon: 0.0 is not possible"),
        ("vision", {"registers": -1}, "registers: -1 is not possible"),
        ("vision", {"std": (0.5, 0.0, 0.5)}, "std: (0.5, 0.0, 0.5) is not possible"),
        ("text", {"end": 20}, "end: 20 is no id of a vocabulary of 20"),
        ("text", {"padding": -1}, "padding: -1 is no id"),
    ],
)
def test_wrong_values_are_refused_by_name(request, maker, keywords, words):
    with pytest.raises(InputError) as raised:
        request.getfixturevalue(maker)(**keywords)
    assert words in str(raised.value)


def test_numbers_for_another_count_of_channels_are_refused(vision, images):
    with pytest.raises(InputError, match="mean: 3 numbers for 1 channels"):
        vision(mean=(0.1, 0.2, 0.3)).init(jax.random.key(0), images)
