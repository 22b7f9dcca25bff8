"""Queues: rings of the last embeddings, one or one a label, right on every mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import altered, made_up_batch, of_file

from contrastive_jax.branches.memory import Queue
from contrastive_jax.errors import InputError

CONFIG = "graph_config.py"


def ring(queue: Queue, state, label=0):
    """The embeddings of a label, oldest first."""
    rows = np.asarray(state["embeddings"])[label * queue.size : (label + 1) * queue.size]
    return np.roll(rows, -int(state["next"][label]), axis=0)


@given(batch=st.sampled_from([1, 2, 4]), times=st.integers(1, 9), seed=st.integers(0, 9))
def test_a_queue_is_the_concatenation_of_the_last_keys(batch, times, seed):
    queue = Queue("a", size=8)
    state = queue.init(jax.random.key(seed), 3)
    written = [ring(queue, state)]
    for number in range(times):
        z = jax.random.normal(jax.random.key(100 + number), (batch, 3))
        state = queue.write(state, z, None)
        written.append(np.asarray(z))
    np.testing.assert_array_equal(ring(queue, state), np.concatenate(written)[-8:])


@given(st.lists(st.lists(st.integers(-1, 3), min_size=6, max_size=6), min_size=1, max_size=4))
def test_queues_by_label_each_keep_their_own_last_ones(labels):
    queue = Queue("a", size=4, labels="language", number=3, start="empty")
    state, kept = queue.init(jax.random.key(0), 1), {label: [] for label in range(3)}
    for number, of_batch in enumerate(labels):
        z = np.arange(6.0)[:, None] + 10 * number + 1
        state = queue.write(state, jnp.asarray(z), jnp.asarray(of_batch))
        for value, label in zip(z[:, 0], of_batch):
            if label in kept:
                kept[label].append(value)
    memory = queue.read(state)
    for label, values in kept.items():
        own = np.asarray(memory.labels) == label
        filled = own & np.asarray(memory.filled)
        assert sorted(np.asarray(memory.embeddings)[filled][:, 0]) == sorted(values[-4:])


def test_a_queue_starts_with_random_unit_vectors_or_empty():
    rows = Queue("a", size=16).init(jax.random.key(0), 8)["embeddings"]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1, rtol=1e-5)
    empty = Queue("a", size=16, start="empty")
    memory = empty.read(empty.init(jax.random.key(0), 8))
    assert not memory.filled.any()
    assert not memory.embeddings.any()


def test_a_step_writes_its_keys_after_its_losses_have_read():
    run = of_file(CONFIG)
    with jax.set_mesh(run.mesh):
        state = run.initial_state()
        before = np.asarray(state.memory["keys"]["embeddings"])
        state, _ = run.train_step()(state, made_up_batch(run))
    after = np.asarray(state.memory["keys"]["embeddings"])
    np.testing.assert_array_equal(after[16:], before[16:])
    assert (after[:16] != before[:16]).any(axis=1).all()
    np.testing.assert_allclose(np.linalg.norm(after[:16], axis=-1), 1, rtol=1e-5)
    assert state.memory["keys"]["next"] == 16


def test_a_queue_that_the_batch_does_not_divide_is_refused_by_its_key():
    run = of_file(CONFIG)
    with pytest.raises(InputError, match=r"keys.size=100 is no multiple of the 16.*such as 112"):
        altered(run, memory={"keys": Queue("target_b", size=100)})


def test_a_queue_that_does_not_divide_over_the_devices_is_refused():
    run = of_file(CONFIG, batch_size=8)
    labels = {"keys": Queue("target_b", size=3, labels="label", number=2)}
    with pytest.raises(InputError, match=r"config.memory.keys.size=3: 6 embeddings do not divide over 8"):
        altered(run, 8, memory=labels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"start": "full"}, "start=full: give one of random, empty"),
        ({"number": 2}, "number=2 queues want labels="),
        ({"labels": "language"}, "labels=language of number=1 queue: give their number"),
    ],
)
def test_settings_of_a_queue_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        Queue("a", **settings)


@pytest.mark.parametrize(
    ("branch", "message"),
    [("nobody", "config.memory.keys.branch: branch 'nobody'"), ("a.nothing", "has no stage 'nothing'")],
)
def test_a_queue_of_an_unknown_branch_is_refused(branch, message):
    with pytest.raises(InputError, match=message):
        altered(of_file(CONFIG), memory={"keys": Queue(branch, size=16)})
