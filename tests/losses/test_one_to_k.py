"""1-to-K: the formula, CLIP for one language, and no order among languages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, table_cross_entropy, unit, value

from contrastive_jax import one_to_k, softmax_contrastive


@random_cases
def test_equals_the_definition(seed):
    mesh, n, k, divided = draw(seed, "one_to_k", (1, 17), (1, 5), [True, False])
    own = np.repeat(np.eye(n), k, axis=1)

    def definition(images, texts, scale):
        logits = scale * images @ texts.reshape(n * k, -1).T
        of_texts = table_cross_entropy(logits.T, own.T) / (k if divided else 1)
        return (table_cross_entropy(logits, own) + of_texts) / 2

    def loss(images, texts, scale, engine):
        return one_to_k(images, texts, scale=scale, divide_texts=divided, engine=engine)

    is_the_same(loss, definition, (unit(seed, n, 4), unit(seed + 1, n, k, 4), 5.0), mesh)


def test_one_language_is_clip():
    images, texts = (jnp.asarray(unit(seed, 9, 4), jnp.float32) for seed in (0, 1))
    want = value(softmax_contrastive, images, texts, scale=8.0)
    for divided in (False, True):
        got = value(one_to_k, images, texts[:, None], scale=8.0, divide_texts=divided)
        assert got == pytest.approx(want, rel=2e-6)


def test_the_order_of_the_languages_means_nothing():
    images, texts = jnp.asarray(unit(0, 9, 4)), jnp.asarray(unit(1, 9, 3, 4))
    loss = jax.jit(lambda texts: one_to_k(images, texts, scale=8.0).value)
    mixed = texts.at[0].set(texts[0, jnp.array([1, 2, 0])])  # another order for one picture alone
    for turned in (texts[:, ::-1], mixed):
        assert float(loss(turned)) == pytest.approx(float(loss(texts)), rel=2e-6)
