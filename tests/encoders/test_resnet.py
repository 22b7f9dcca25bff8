import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.encoders import ResNet
from contrastive_jax.errors import InputError

SMALL = {"size": "micro", "width": 8, "groups": 4, "stem": "small"}


@pytest.fixture(scope="module")
def pictures():
    return jax.random.randint(jax.random.key(0), (8, 8, 8, 3), 0, 256).astype(jnp.uint8)


@pytest.fixture(scope="module")
def params(pictures):
    """Random everywhere: as they start, the residual branches give 0."""
    start = ResNet(**SMALL).init(jax.random.key(1), pictures)
    keys = iter(jax.random.split(jax.random.key(2), 99))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), start)


# Without the classifier; Table 1 of the paper gives the depths, torchvision's models the counts.
@pytest.mark.parametrize(("size", "count"), [("18", 11_176_512), ("34", 21_284_672), ("50", 23_508_032)])
def test_parameters_of_the_published_sizes(size, count):
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
    params = jax.eval_shape(ResNet(size=size).init, jax.random.key(0), image)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count


def test_places_and_width():
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
    for encoder, places, width in ((ResNet(), 49, 2048), (ResNet(size="micro", stem="small"), 56 * 56, 128)):
        params = jax.eval_shape(encoder.init, jax.random.key(0), image)
        encoded = jax.eval_shape(lambda p, x, e=encoder: e.apply(p, x, train=False, key=None), params, image)
        assert encoded.tokens.shape == (1, places, width)
        assert encoded.embedding.shape == (1, width)


def test_no_example_sees_another(params, pictures):
    encoder = ResNet(**SMALL)
    whole = encoder.apply(params, pictures, train=True, key=None).embedding
    alone = encoder.apply(params, pictures[3:4], train=True, key=None).embedding
    np.testing.assert_allclose(whole[3:4], alone, rtol=1e-4, atol=1e-5)


def test_group_normalisation_by_hand(params, pictures):
    """The stem against numpy's own convolution and statistics."""
    x = np.asarray(pictures, np.float64) / 127.5 - 1
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = np.asarray(params["stem"]["convolution"]["kernel"], np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    y = np.einsum("bhwcij,ijcf->bhwf", windows, kernel).reshape(8, 8, 8, 4, 2)
    y = (y - y.mean((1, 2, 4), keepdims=True)) / np.sqrt(y.var((1, 2, 4), keepdims=True) + 1e-5)
    norm = params["stem"]["norm"]
    expected = y.reshape(8, 8, 8, 8) * np.asarray(norm["scale"]) + np.asarray(norm["bias"])
    module = ResNet(**SMALL).module(pictures)
    _, seen = module.apply(
        {"params": params}, pictures, None, capture_intermediates=lambda m, _: m.name == "stem"
    )
    np.testing.assert_allclose(seen["intermediates"]["stem"]["__call__"][0], expected, atol=1e-4)


def test_recomputing_changes_no_gradient(params, pictures):
    def loss(encoder, params):
        return jnp.sum(jnp.sin(encoder.apply(params, pictures, train=True, key=None).embedding))

    plain, again = (jax.grad(partial(loss, ResNet(**SMALL, remat=remat)))(params) for remat in (False, True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, again)


def test_bfloat16_keeps_parameters_and_embedding_in_float32(params, pictures):
    encoded = ResNet(**SMALL, dtype="bfloat16").apply(params, pictures, train=False, key=None)
    assert encoded.embedding.dtype == jnp.float32
    assert encoded.tokens.dtype == jnp.bfloat16
    exact = ResNet(**SMALL).apply(params, pictures, train=False, key=None).embedding
    np.testing.assert_allclose(encoded.embedding, exact, atol=0.1 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"size": "19"}, "size: '19' is not a size; choose one of micro, 18"),
        ({"groups": 5}, "groups: 5 does not divide width 64"),
        ({"stem": "tiny"}, "stem: 'tiny' is not one of large, small"),
        ({"stride": 2}, "stride: 2 is for the small stem"),
        ({"width": 0}, "width: 0 is not possible"),
    ],
)
def test_wrong_values_are_refused_by_name(keywords, words):
    with pytest.raises(InputError) as raised:
        ResNet(**keywords)
    assert words in str(raised.value)


def test_what_is_no_image_is_refused():
    with pytest.raises(InputError, match=r"must be \[height, width, channels\]"):
        ResNet(**SMALL).init(jax.random.key(0), jnp.zeros((2, 8, 8)))
