"""Records drawn with replacement by their weights."""

import numpy as np
import pytest
from scipy import stats

from contrastive_jax.data.samplers import KINDS, Weighted
from contrastive_jax.errors import InputError


class Fields:
    """A source of columns alone."""

    name = "fields"

    def __init__(self, **columns):
        self._columns = columns

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def column(self, name):
        return self._columns[name]


def drawn(sampler, source, batch_size=500, steps=40, seed=0):
    draw = sampler.bind(source, batch_size, seed)
    return np.concatenate([draw(step)[:, 0] for step in range(steps)])


def likelihood(counts, shares):
    """The p-value of the counts under the shares, by the chi-square test."""
    return stats.chisquare(counts, np.array(shares) / np.sum(shares) * counts.sum()).pvalue


def test_records_come_by_their_weights():
    weights = [3, 1, 0.5, 0, 2, 0, 1e-3, 4]
    counts = np.bincount(drawn(Weighted(weight="w"), Fields(w=weights)), minlength=8)
    assert counts[[3, 5]].tolist() == [0, 0]
    there = np.flatnonzero(weights)
    assert likelihood(counts[there], np.array(weights)[there]) > 0.01
    assert likelihood(counts[there], np.ones(len(there))) < 1e-9  # the test would see other weights
    assert np.array_equal(counts, np.bincount(drawn(Weighted("w"), Fields(w=list(map(str, weights))))))


def test_values_come_equally_often_and_the_records_of_one_too():
    labels = np.repeat(["a", "b", "c"], [90, 9, 1])
    np.random.default_rng(0).shuffle(labels)
    indices = drawn(Weighted(balance="label"), Fields(label=labels))
    values, counts = np.unique(labels[indices], return_counts=True)
    assert values.tolist() == ["a", "b", "c"]
    assert likelihood(counts, [1, 1, 1]) > 0.01
    assert likelihood(np.bincount(indices)[labels == "a"], np.ones(90)) > 0.01


def test_rows_are_independent_and_steps_and_seeds_differ():
    draw = Weighted("w").bind(Fields(w=[1.0] * 4), 2, 0)
    pairs = np.array([draw(step)[:, 0] for step in range(8000)])
    assert likelihood(np.bincount(pairs @ [4, 1], minlength=16), np.ones(16)) > 0.01
    following = pairs[:-1, 0] * 4 + pairs[1:, 0]
    assert likelihood(np.bincount(following, minlength=16), np.ones(16)) > 0.01
    other = Weighted("w").bind(Fields(w=[1.0] * 4), 2, 1)
    assert 0.15 < np.mean([draw(step)[0] == other(step)[0] for step in range(2000)]) < 0.35


def test_some_rows_are_those_of_the_whole_batch():
    draw = Weighted("w").bind(Fields(w=np.arange(1, 9)), 64, 5)
    assert draw(3).shape == (64, 1)
    assert draw(3).dtype == np.int64
    assert np.array_equal(draw(3)[10:20], draw(3, slice(10, 20)))
    assert np.array_equal(draw(3)[[1, 60]], draw(3, np.array([1, 60])))
    assert np.array_equal(draw(3), Weighted("w").bind(Fields(w=np.arange(1, 9)), 64, 5)(3))


def test_a_batch_may_be_larger_than_the_source():
    assert set(drawn(Weighted("w"), Fields(w=[1, 0, 2]), 50, 1)) == {0, 2}


@pytest.mark.parametrize(
    ("sampler", "columns", "words"),
    [
        (dict(), dict(w=[1]), "name a field of weights, or one"),
        (dict(weight="w", balance="w"), dict(w=[1]), "name a field of weights, or one"),
        (dict(weight="x"), dict(w=[1]), "sampler.weight='x' is no field of fields"),
        (dict(balance="x"), dict(w=[1]), "sampler.balance='x' is no field of fields"),
        (
            dict(weight="w"),
            dict(w=[1, -1]),
            "record 1 of fields has -1, and a weight is a number of 0 or more",
        ),
        (dict(weight="w"), dict(w=[1, "heavy"]), "record 1 of fields has 'heavy'"),
        (dict(weight="w"), dict(w=[1.0, float("nan")]), "record 1 of fields has nan"),
        (dict(weight="w"), dict(w=[0, 0]), "all weights of fields are 0"),
    ],
)
def test_bad_weights(sampler, columns, words):
    class Known(Fields):
        def __getitem__(self, index):
            return {name: values[index] for name, values in self._columns.items()}

        def column(self, name):
            if name not in self._columns:
                raise KeyError(name)
            return super().column(name)

    with pytest.raises(InputError) as error:
        KINDS["weighted"](**sampler).bind(Known(**columns), 1, 0)
    assert words in str(error.value)
