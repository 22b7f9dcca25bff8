import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.errors import InputError

LENGTHS = jnp.array([6, 1, 3, 4, 5, 2, 6, 3])


@pytest.fixture
def encode(text, parameters):
    """The text encoder with these settings, as a function of texts."""

    def make(**keywords):
        encoder = text(**keywords)
        params = parameters(encoder)
        return jax.jit(lambda view: encoder.apply(params, view, train=False, key=None))

    return make


@pytest.mark.parametrize(
    ("pooling", "causal"),
    [("cls", False), ("mean", False), ("map", False), ("last", False), ("last", True), ("mean", True)],
)
def test_padding_changes_no_embedding(encode, texts, pooling, causal):
    apply = encode(pooling=pooling, causal=causal)
    longer = jnp.pad(texts, ((0, 0), (0, 3)))
    np.testing.assert_allclose(apply(longer).embedding, apply(texts).embedding, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "map", "last"])
def test_an_empty_text_is_finite_and_leaves_the_others_alone(encode, texts, pooling):
    apply = encode(pooling=pooling)
    out = apply(texts.at[2].set(0))
    assert np.isfinite(out.embedding).all()
    np.testing.assert_allclose(out.embedding[0], apply(texts).embedding[0], atol=1e-6)


def test_masks_tell_words_from_padding_and_from_the_class_token(encode, texts):
    apply = encode(pooling="cls")
    out = apply(texts)
    np.testing.assert_array_equal(out.mask.sum(1), LENGTHS + 1)
    np.testing.assert_array_equal(out.pool_mask.sum(1), LENGTHS)
    assert out.mask[:, 0].all()
    assert not out.pool_mask[:, 0].any()


def test_pooling_takes_what_it_says(encode, texts):
    for pooling, expected in (
        ("cls", lambda out: out.tokens[:, 0]),
        ("last", lambda out: out.tokens[jnp.arange(8), LENGTHS - 1]),
        ("mean", lambda out: (out.tokens * out.mask[..., None]).sum(1) / LENGTHS[:, None]),
    ):
        apply = encode(pooling=pooling)
        out = apply(texts)
        np.testing.assert_allclose(out.embedding, expected(out), atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_text_does_not_look_ahead(encode, texts, causal):
    apply = encode(causal=causal, pooling="mean")
    changed = texts.at[0, 3].set(texts[0, 3] % 19 + 1)
    difference = np.abs(np.asarray(apply(changed).tokens - apply(texts).tokens))[0].max(-1)
    assert (difference[:3].max() == 0) == causal
    assert difference[3] > 1e-3


def test_order_matters(encode, texts):
    apply = encode(pooling="mean")
    swapped = texts.at[0, :2].set(texts[0, :2][::-1])
    assert np.abs(apply(swapped).embedding - apply(texts).embedding)[0].max() > 1e-3


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"vocabulary": 0}, "vocabulary: 0 is not possible"),
        ({"length": 0}, "length: 0 is not possible"),
        ({"causal": True, "pooling": "cls"}, "pooling: 'cls' stands first"),
        ({"size": "B/16"}, "size: 'B/16' is not a size"),
    ],
)
def test_wrong_values_are_refused_by_name(text, keywords, words):
    with pytest.raises(InputError) as raised:
        text(**keywords)
    assert words in str(raised.value)


def test_texts_that_do_not_fit_are_refused(text):
    with pytest.raises(InputError, match="length: 9 is less than the 10 tokens of a text"):
        text().init(jax.random.key(0), jnp.zeros((2, 10), jnp.int32))
    with pytest.raises(InputError, match="token ids of shape"):
        text().init(jax.random.key(0), jnp.zeros((2, 3, 4), jnp.int32))
