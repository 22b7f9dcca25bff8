import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.mixtures import Homogeneous, Mixture
from contrastive_jax.data.samplers import Identities
from contrastive_jax.errors import InputError


class Labels:
    """A source of labels alone."""

    name = "labels"

    def __init__(self, labels):
        self._labels = np.asarray(labels)

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        return {"source": self._labels[index]}

    def column(self, name):
        if name != "source":
            raise KeyError(name)
        return self._labels


def shuffled(sizes, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)
WEIGHTS = st.floats(0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 50), st.integers(0, 2**31), st.floats(0, 1.5), st.booleans())
def test_a_mixture_has_every_part_by_its_weight_and_every_record_once_an_epoch(
    sizes, batch_size, seed, alpha, together
):
    labels = np.repeat(np.arange(len(sizes)), sizes) if together else shuffled(sizes)
    draw = Mixture(alpha=alpha, repeat=True).bind(Labels(labels), batch_size, seed)
    shares = np.array(sizes, float) ** alpha / (np.array(sizes, float) ** alpha).sum()
    steps = [draw(step)[:, 0] for step in range(6)]
    for rows in steps:
        counts = np.bincount(labels[rows], minlength=len(sizes))
        assert (np.abs(counts - batch_size * shares) <= len(sizes)).all()
    drawn = np.concatenate(steps)
    for part, size in enumerate(sizes):
        of = drawn[labels[drawn] == part]
        for epoch in range(0, len(of) - size + 1, size):
            assert sorted(of[epoch : epoch + size].tolist()) == np.flatnonzero(labels == part).tolist()


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**31), st.integers(1, 9))
def test_some_rows_of_any_step_are_those_of_the_whole_batch(sizes, seed, batch_size):
    source = Labels(shuffled(sizes))
    for draw in (
        Mixture(alpha=0.5, repeat=True).bind(source, batch_size, seed),
        Homogeneous(alpha=0.5, repeat=True).bind(source, batch_size, seed),
        Identities("source", 3, repeat=True).bind(source, 3 * batch_size, seed),
    ):
        for step in (7, 0, 10**9):
            whole = draw(step)
            some = np.flatnonzero(np.arange(len(whole)) % 2 == 0)
            assert np.array_equal(draw(step, some), whole[some])
            assert np.array_equal(draw(step, slice(1, 4)), whole[1:4])
            assert whole.dtype == np.int64


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(8, 40), min_size=1, max_size=4), st.integers(1, 8), st.integers(0, 2**31))
def test_a_homogeneous_batch_is_of_one_part_and_an_epoch_repeats_nothing(sizes, batch_size, seed):
    labels = shuffled(sizes)
    draw = Homogeneous(weights=(1.0,) * len(sizes)).bind(Labels(labels), batch_size, seed)
    turns = {part: [] for part in range(len(sizes))}
    for step in range(12):
        rows = draw(step)[:, 0]
        assert len(set(labels[rows].tolist())) == 1
        assert len(set(rows.tolist())) == batch_size
        turns[int(labels[rows[0]])].append(rows)
    assert max(map(len, turns.values())) - min(map(len, turns.values())) <= 1
    for part, batches in turns.items():
        epoch = np.concatenate(batches)[: sizes[part] // batch_size * batch_size] if batches else []
        assert len(set(epoch)) == len(epoch)


def test_weights_are_shares_of_the_batches():
    labels = np.repeat([0, 1, 2], 20)
    draw = Homogeneous(weights=(6.0, 3.0, 0.0)).bind(Labels(labels), 4, seed=0)
    counts = np.bincount([labels[draw(step)[0, 0]] for step in range(900)], minlength=3)
    assert counts[2] == 0
    assert abs(counts[0] - 600) <= 2
    rows = Mixture(weights=(6.0, 3.0, 0.0)).bind(Labels(labels), 9, seed=0)
    assert all(np.bincount(labels[rows(step)[:, 0]], minlength=3).tolist() == [6, 3, 0] for step in range(9))


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(1, 4), st.integers(0, 2**31))
def test_identities_come_once_an_epoch_with_different_records_where_there_are(sizes, members, seed):
    labels = shuffled(sizes)
    draw = Identities("source", members).bind(Labels(labels), len(sizes) * members, seed)
    for step in range(3):
        rows = draw(step)[:, 0].reshape(-1, members)
        assert (labels[rows] == labels[rows[:, :1]]).all()
        assert sorted(labels[rows[:, 0]].tolist()) == list(range(len(sizes)))
        for row in rows.tolist():
            assert len(set(row)) == min(members, sizes[labels[row[0]]])


@pytest.mark.parametrize(
    ("sampler", "batch_size", "words"),
    [
        (Mixture("colour"), 2, "sampler.field='colour' is no field of labels"),
        (Mixture(weights=(1.0,)), 2, "has 1 numbers, but there are 2 parts: 0, 1"),
        (Mixture(weights=(9.0, 1.0)), 12, "source=0 has 9 records, and its share of a batch is 10.8"),
        (Homogeneous(), 4, "batch_size=4 is more than the 3 records of source=1"),
        (Identities("source", 4), 6, "batch_size=6 is no multiple of sampler.members=4"),
        (Identities("source", 2), 6, "batch_size=6 / sampler.members=2, 3 identities, is more than the 2"),
    ],
)
def test_what_a_sampler_cannot_draw(sampler, batch_size, words):
    with pytest.raises(InputError) as error:
        sampler.bind(Labels([0] * 9 + [1] * 3), batch_size, seed=0)
    assert words in str(error.value)


@pytest.mark.parametrize("odd", [["a", "b"], {"a": 1}, b"a"])
def test_a_field_of_lists_is_no_field_to_part_by(odd):
    for labels in ([odd, odd], [odd, "a"], ["a", None, odd]):
        source = Labels([])
        source._labels = labels
        for sampler in (Mixture(), Homogeneous(), Identities("source", 1)):
            with pytest.raises(InputError, match=r"'source' holds a \w+ in labels: name a field of texts"):
                sampler.bind(source, 1, seed=0)


def test_null_is_a_part_of_its_own():
    source = Labels([])
    source._labels = ["b", None, "b", None, "a"]
    draw = Mixture(weights=(1.0, 0.0, 0.0), repeat=True).bind(source, 4, seed=0)
    assert set(draw(0)[:, 0].tolist()) == {1, 3}


@pytest.mark.parametrize(
    "keywords", [dict(weights=()), dict(weights=(-1.0, 2.0)), dict(weights=(0.0,)), dict(alpha=-1.0)]
)
def test_wrong_weights(keywords):
    for kind in (Mixture, Homogeneous):
        with pytest.raises(InputError, match="sampler"):
            kind(**keywords)


def test_a_part_without_weight_may_be_smaller_than_a_batch():
    labels = np.array([0] * 9 + [1] * 3)
    draw = Homogeneous(weights=(1.0, 0.0)).bind(Labels(labels), 4, seed=0)
    assert all((labels[draw(step)] == 0).all() for step in range(5))
