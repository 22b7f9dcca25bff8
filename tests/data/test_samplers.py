import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.samplers import Groups, Permutation
from contrastive_jax.errors import InputError


class Labels:
    """A source of labels alone."""

    name = "labels"

    def __init__(self, labels):
        self._labels = np.asarray(labels)

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        return {"label": self._labels[index]}

    def column(self, name):
        if name != "label":
            raise KeyError(name)
        return self._labels


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31))
def test_an_epoch_holds_every_record_at_most_once(count, batch_size, seed):
    batch_size = min(count, batch_size)
    draw = Permutation().bind(Labels(range(count)), batch_size, seed)
    steps = count // batch_size
    for epoch in range(2):
        seen = np.concatenate([draw(epoch * steps + step)[:, 0] for step in range(steps)])
        assert len(set(seen.tolist())) == steps * batch_size
        assert set(seen.tolist()) <= set(range(count))


def test_the_order_is_grains_and_changes_with_epoch_and_seed():
    draw = Permutation().bind(Labels(range(1000)), 300, seed=5, order=1)
    order = grain.MapDataset.range(1000).shuffle(seed=5)
    assert draw(4)[:, 0].tolist() == [order[1000 + 300 + row] for row in range(300)]
    assert draw(0).tolist() != draw(3).tolist()
    assert draw(0).tolist() != Permutation().bind(Labels(range(1000)), 300, seed=6, order=1)(0).tolist()


def test_a_batch_larger_than_the_source_must_be_wanted():
    with pytest.raises(InputError, match="batch_size=11 is more than the 10 records"):
        Permutation().bind(Labels(range(10)), 11, seed=0)
    draw = Permutation(repeat=True).bind(Labels(range(10)), 25, seed=0)
    both = np.concatenate([draw(0), draw(1)])[:, 0]
    assert (np.bincount(both, minlength=10) == 5).all()
    with pytest.raises(InputError, match="batch_size=3 is more than the 2 values of label"):
        Groups("label").bind(Labels([0, 0, 0, 1]), 3, seed=0)
    assert Groups("label", repeat=True).bind(Labels([0, 0, 0, 1]), 3, seed=0)(0).shape == (3, 1)


@pytest.mark.parametrize("members", [1, 2, 3])
def test_members_are_of_one_group_and_different_where_there_are_enough(members):
    labels = np.repeat([7, 3, 9, 4, 1], [1, 2, 3, 4, 50])
    np.random.default_rng(0).shuffle(labels)
    draw = Groups("label", members).bind(Labels(labels), 5, seed=1)
    for step in range(50):
        indices = draw(step)
        assert indices.shape == (5, members)
        assert indices.dtype == np.int64
        groups = labels[indices]
        assert (groups == groups[:, :1]).all()
        assert sorted(groups[:, 0].tolist()) == [1, 3, 4, 7, 9]
        for row in indices.tolist():
            assert len(set(row)) == min(members, (labels == labels[row[0]]).sum())


def test_members_are_drawn_evenly():
    draw = Groups("label", 2).bind(Labels([0] * 4), 1, seed=0)
    pairs = [tuple(draw(step)[0].tolist()) for step in range(2400)]
    counts = [pairs.count(pair) for pair in set(pairs)]
    assert len(counts) == 12
    # 200 expected, 13.5 standard deviation
    assert min(counts) > 140
    assert max(counts) < 260


def test_some_rows_are_those_of_the_whole_batch():
    labels = np.arange(300) // 3
    for draw in (
        Permutation().bind(Labels(labels), 64, seed=2),
        Groups("label", 2).bind(Labels(labels), 64, seed=2),
    ):
        for step in (0, 3, 7):
            assert np.array_equal(draw(step)[16:32], draw(step, slice(16, 32)))


def test_bad_arguments():
    with pytest.raises(InputError, match="members=0"):
        Groups(members=0)
    with pytest.raises(InputError, match="'colour' is no field of labels"):
        Groups("colour").bind(Labels([1]), 1, seed=0)


def test_labels_may_be_words():
    draw = Groups("label", 2).bind(Labels(["a", "b", "a", "b"]), 2, seed=0)
    assert {frozenset(row) for row in draw(0).tolist()} == {frozenset({0, 2}), frozenset({1, 3})}
