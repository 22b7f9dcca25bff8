import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.encoders import VisionTransformer
from contrastive_jax.errors import InputError

SMALL = {"size": "micro", "width": 32, "depth": 1, "patch": 4}


@pytest.mark.parametrize(
    ("size", "count"),
    [("Ti/16", 5_524_416), ("S/16", 21_665_664), ("B/16", 85_798_656), ("L/16", 303_301_632)],
)
def test_parameters_of_the_published_sizes(size, count):
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)
    encoder = VisionTransformer(size=size, pooling="cls")
    params = jax.eval_shape(encoder.init, jax.random.key(0), image)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count


def test_size_may_name_the_patch():
    assert VisionTransformer(size="B/32") == VisionTransformer(size="B", patch=32)
    assert VisionTransformer(size="B").patch == 16


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"size": "B/16", "patch": 32}, "patch: 32 differs from size 'B/16'"),
        ({"size": "B/x"}, "size: 'B/x' names no patch"),
        ({"patch": 0}, "patch: 0 is not possible"),
        ({"pooling": "last"}, "pooling: 'last' is for text"),
    ],
)
def test_wrong_values_are_refused_by_name(keywords, words):
    with pytest.raises(InputError) as raised:
        VisionTransformer(**keywords)
    assert words in str(raised.value)


def test_images_that_do_not_fit_are_refused():
    encoder = VisionTransformer(**SMALL)
    with pytest.raises(InputError, match="patch: 4 does not divide an image of 8 x 10 pixels"):
        encoder.init(jax.random.key(0), jnp.zeros((2, 8, 10, 1)))
    with pytest.raises(InputError, match=r"must be \[height, width, channels\]"):
        encoder.init(jax.random.key(0), jnp.zeros((2, 8, 8)))
    params = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
    with pytest.raises(InputError, match="has 16 positions with patch 4, the parameters have 4"):
        encoder.apply(params, jnp.zeros((2, 16, 16, 1)), train=False, key=None)


def test_bytes_are_pixels_from_minus_one_to_one(vision, images, parameters):
    encoder = vision()
    apply = jax.jit(lambda view: encoder.apply(parameters(encoder), view, train=False, key=None).embedding)
    scaled = jnp.asarray(np.asarray(images) / 127.5 - 1, jnp.float32)
    np.testing.assert_allclose(apply(images), apply(scaled), atol=1e-5)


def test_patches_lie_by_row_then_column(vision, parameters):
    encoder = vision(depth=1)
    params = jax.tree.map(jnp.copy, parameters(encoder))
    params["transformer"]["blocks"] = jax.tree.map(lambda p: p[:1], params["transformer"]["blocks"])
    apply = jax.jit(lambda params, view: encoder.apply(params, view, train=False, key=None).tokens)
    image = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))
    change = apply(params, image.at[:, 4:, :4].set(0.0)) - apply(params, image)
    assert np.abs(change).sum((0, 2)).argmax() == 2

    params["transformer"]["position"] *= 0
    shifted = jnp.roll(image, 4, axis=2)
    np.testing.assert_allclose(apply(params, image)[:, [1, 0, 3, 2]], apply(params, shifted), atol=1e-5)
