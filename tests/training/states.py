"""Small states, and the folder that their checkpoints lie in."""

from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.training.checkpoint import Checkpoints


def small(step, width=8):
    """A state that is a function of the step."""
    return {"step": jnp.int32(step), "params": {"kernel": jnp.full((4, width), step, jnp.float32)}}


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)


def same(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(other)):
        assert x.dtype == y.dtype
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def hidden(folder):
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))


@contextmanager
def opened(folder, **keywords):
    with Checkpoints(folder, **keywords) as checkpoints:
        yield checkpoints
