"""Small encoders, and their parameters made once for all tests."""

import functools

import jax
import jax.numpy as jnp
import pytest

from contrastive_jax.encoders import TextTransformer, VisionTransformer

SMALL = {"size": "micro", "width": 32, "depth": 3, "heads": 4, "unroll": 1}
LENGTHS = (6, 1, 3, 4, 5, 2, 6, 3)


@pytest.fixture(scope="session")
def images():
    """Eight pictures [8, 8, 8, 1] of bytes."""
    return jax.random.randint(jax.random.key(1), (8, 8, 8, 1), 0, 256).astype(jnp.uint8)


@pytest.fixture(scope="session")
def texts():
    """Eight texts [8, 6] of `LENGTHS` words, no word twice in a text."""
    words = jax.vmap(lambda key: jax.random.choice(key, jnp.arange(1, 20), (6,), replace=False))(
        jax.random.split(jax.random.key(2), 8)
    )
    return jnp.where(jnp.arange(6) < jnp.array(LENGTHS)[:, None], words, 0)


@pytest.fixture(scope="session")
def vision():
    return lambda **keywords: VisionTransformer(**({**SMALL, "patch": 4, "pooling": "mean"} | keywords))


@pytest.fixture(scope="session")
def text():
    settings = {**SMALL, "vocabulary": 20, "length": 9, "pooling": "mean"}
    return lambda **keywords: TextTransformer(**(settings | keywords))


@pytest.fixture(scope="session")
def parameters(images, texts, vision, text):
    """Parameters of a `vision` or `text` encoder, made once for each; those of `mean` are in `map`'s."""

    @functools.cache
    def init(maker, pooling):
        with jax.ensure_compile_time_eval():  # the first to ask may be tracing
            return maker(pooling=pooling).init(jax.random.key(0), images if maker is vision else texts)

    def find(encoder):
        maker = vision if isinstance(encoder, VisionTransformer) else text
        if encoder.pooling in ("cls", "map"):
            return init(maker, encoder.pooling)
        params = init(maker, "map")
        return params | {"transformer": {k: v for k, v in params["transformer"].items() if k != "pooling"}}

    return find


@pytest.fixture(params=["vision", "text"])
def tower(request, images, texts):
    """An encoder's maker with a view for it."""
    maker = request.getfixturevalue(request.param)
    return maker, images if request.param == "vision" else texts
