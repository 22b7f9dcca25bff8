"""Ids are whole numbers of any size; what equals what is never lost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import unit

import contrastive_jax as cj
from contrastive_jax.evaluation.nearest import search
from contrastive_jax.losses.labels import ids
from contrastive_jax.losses.negatives import Memory
from contrastive_jax.similarity import cross_entropy

SMALL = np.array([0, 1, 2, 3, 0, 1, 7, -2])
LARGE = SMALL + np.array([1, 2, 3, 4, 1, 2, 5, 6]) * 2**32  # in 32 bits the same as SMALL, equal where it is
COLLIDING = np.arange(8) * 2**32  # in 32 bits all are 0
z = jnp.asarray(unit(0, 2, 8, 4), jnp.float32)
memory = Memory(jnp.asarray(unit(1, 3, 4), jnp.float32), labels=np.array([1, 2, 1]) * 2**40)

CALLS = {
    "positives": lambda x: cj.softmax_contrastive(*z, scale=3.0, positives=x),
    "positives of both": lambda x: cj.softmax_contrastive(*z, scale=3.0, positives=(x, x)),
    "positives, smoothed": lambda x: cj.softmax_contrastive(*z, scale=3.0, positives=x, label_smoothing=0.1),
    "ignore": lambda x: cj.softmax_contrastive(*z, scale=3.0, ignore=x),
    "sigmoid": lambda x: cj.sigmoid_contrastive(*z, scale=3.0, bias=0.0, positives=x),
    "hard": lambda x: cj.hard_contrastive(*z, scale=3.0, fraction=1.0, positives=x),
    "late interaction": lambda x: cj.late_interaction(*z[:, :, None], positives=x, ignore=x),
    "labels": lambda x: cj.supervised_contrastive(z[0], x, scale=3.0),
}
every = pytest.mark.parametrize("name", CALLS)


@functools.cache
def right(name):
    """Of small ids, which pass as they are."""
    return float(CALLS[name](np.unique(COLLIDING, return_inverse=True)[1].astype(np.int32)).value)


@every
def test_large_ids_are_told_apart(name):
    for large in (
        COLLIDING,
        COLLIDING.astype(np.uint64),
        COLLIDING.tolist(),
        [2**90 + int(x) for x in COLLIDING],
    ):
        assert float(CALLS[name](large).value) == pytest.approx(right(name), rel=1e-6)


@every
@pytest.mark.parametrize(
    ("wrong", "held"),
    [
        (np.arange(8) / 2, "float64"),
        (np.arange(8) > 3, "bool"),
        (list("abcdefgh"), "text"),
        ([None] * 8, "object"),
    ],
)
def test_what_are_no_ids_is_refused(name, wrong, held):
    argument = name.split()[0].strip(",") if name[:3] in ("pos", "ign", "lab") else "positives"
    with pytest.raises(ValueError, match=rf"^{argument} holds {held}: give integers"):
        CALLS[name](wrong)
    if held in ("float64", "bool"):
        with pytest.raises(ValueError, match=rf"^{argument} holds .*: give integers"):
            jax.eval_shape(lambda x: CALLS[name](x).value, jnp.asarray(wrong))


def test_equal_is_equal_on_both_sides():
    same = SMALL[:, None] == SMALL[None, :]
    sides = LARGE, LARGE.tolist(), LARGE.astype(object)
    for rows in sides:
        for columns in sides:
            a, b = ids("x", rows, columns)
            np.testing.assert_array_equal(a[:, None] == b[None, :], same)
    small, large = ids("x", jnp.asarray(SMALL, jnp.int32), LARGE)  # a JAX array is part of it
    assert not (small[:, None] == large[None, :]).any()


def test_what_fits_stays_as_it_is():
    for dtype in (np.int8, np.int32, np.int64):
        (found,) = ids("x", SMALL.astype(dtype))
        np.testing.assert_array_equal(found, SMALL)
    ends = np.array([-(2**31), 2**31 - 1])
    np.testing.assert_array_equal(ids("x", ends)[0], ends)
    signed, unsigned = ids("x", np.array([-1, 5]), np.array([2**32 - 1, 5], np.uint32))
    assert (signed[:, None] == unsigned[None, :]).tolist() == [[False, False], [False, True]]
    with jax.enable_x64(True):
        np.testing.assert_array_equal(ids("x", LARGE)[0], LARGE)
        a, b = ids("x", np.array([2**64 - 1], np.uint64), np.array([-1]))
        assert a[0] != b[0]


def test_beside_traced_labels_they_are_refused():
    with pytest.raises(
        ValueError, match=r"^positives holds 30064771072 beside labels that are traced.*np.unique"
    ):
        jax.eval_shape(lambda x: cj.softmax_contrastive(*z, scale=3.0, positives=(x, COLLIDING)).value, SMALL)
    with pytest.raises(ValueError, match="holds unsigned integers beside"):
        jax.eval_shape(lambda x: ids("x", x, jnp.arange(3)), jnp.arange(3, dtype=jnp.uint32))
    assert jax.eval_shape(lambda x: ids("x", x, SMALL)[1], jnp.arange(3)).dtype == jnp.int32


def test_labels_of_a_memory_are_numbered_with_those_of_the_rows():
    labels = np.array([1, 2, 1, 2, 1, 2, 1, 2])
    small = memory._replace(labels=np.array([1, 2, 1]))
    for loss in (
        lambda m, x: cj.softmax_contrastive(*z, scale=3.0, memory=m, memory_labels=x),
        lambda m, x: cj.momentum_contrast(*z, m, scale=3.0, memory_labels=x),
    ):
        assert loss(memory, labels * 2**40).value == pytest.approx(float(loss(small, labels).value), rel=1e-6)
        with pytest.raises(ValueError, match="memory_labels holds float"):
            loss(small, labels / 1)


def test_presence_is_yes_or_no():
    with pytest.raises(ValueError, match="present holds int64: give booleans"):
        cj.softmax_contrastive(*z, scale=3.0, present=np.arange(8))


def test_records_of_a_tile_lose_no_digits():
    record = {"z": z[0], "id": COLLIDING}
    tile = lambda a, b, _: a["z"] @ b["z"].T  # noqa: E731
    with pytest.raises(ValueError, match=r"hold int64 that int32 does not: number them anew"):
        cross_entropy(tile, record, record)
    cross_entropy(tile, record | {"id": SMALL}, record | {"id": SMALL})


def test_a_search_tells_large_numbers_apart():
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    a = np.asarray(z[0])
    found = search(a, a, 8, mesh, within=(COLLIDING, COLLIDING))[1]
    np.testing.assert_array_equal(found[:, 0], np.arange(8))
    assert (found[:, 1:] == -1).all()
