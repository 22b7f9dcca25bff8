"""1-to-K: the formula, CLIP for one language, and no order among languages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import agree, draw, graded, is_the_same, random_cases, table_cross_entropy, unit

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
    want, (of_images, of_texts) = graded(softmax_contrastive, images, texts, scale=8.0)
    for divided in (False, True):
        got, gradients = graded(one_to_k, images, texts[:, None], scale=8.0, divide_texts=divided)
        assert got == pytest.approx(float(want), rel=2e-6)
        agree(gradients, (of_images, of_texts[:, None]))


def test_the_order_of_the_languages_means_nothing():
    images, texts = jnp.asarray(unit(0, 9, 4), jnp.float32), jnp.asarray(unit(1, 9, 3, 4), jnp.float32)
    run = jax.jit(jax.value_and_grad(lambda images, texts: one_to_k(images, texts, scale=8.0).value, (0, 1)))
    want, (of_images, of_texts) = run(images, texts)
    backwards = np.tile([2, 1, 0], (9, 1))
    one_alone = np.tile([0, 1, 2], (9, 1))
    one_alone[0] = 1, 2, 0
    for order in (backwards, one_alone):
        got, gradients = run(images, jnp.take_along_axis(texts, order[..., None], axis=1))
        assert got == pytest.approx(float(want), rel=2e-6)
        agree(gradients, (of_images, jnp.take_along_axis(of_texts, order[..., None], axis=1)))
