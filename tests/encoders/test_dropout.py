import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.encoders.dropout import drop_path, dropout, fold

KEYS = jax.random.split(jax.random.key(0), 400)
ONES = jnp.ones((400, 5, 6))


def test_dropout_keeps_the_mean_and_drops_elements():
    y = np.asarray(dropout(ONES, 0.25, KEYS))
    np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
    np.testing.assert_allclose(y.mean(), 1, atol=0.02)
    assert len(np.unique(y, axis=0)) > 300


def test_drop_path_drops_whole_examples():
    y = np.asarray(drop_path(ONES, 0.25, KEYS)).reshape(400, -1)
    assert (y == y[:, :1]).all()
    np.testing.assert_allclose((y[:, 0] == 0).mean(), 0.25, atol=0.08)


def test_rate_zero_or_no_keys_do_nothing():
    assert dropout(ONES, 0.0, KEYS) is ONES
    assert drop_path(ONES, 0.5, None) is ONES
    assert fold(None, 3) is None
    np.testing.assert_array_equal(dropout(ONES, jnp.zeros(()), KEYS), ONES)


def test_places_draw_apart():
    one, two = (dropout(ONES, 0.5, fold(KEYS, i)) for i in range(2))
    assert 0.4 < np.mean(np.asarray(one == two)) < 0.6
