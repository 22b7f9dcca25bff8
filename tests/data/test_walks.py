"""Orders of epochs: no two seeds, epochs or parts have the same one, and old runs have the old ones."""

import itertools

import numpy as np
import pytest
from grain.experimental import index_shuffle

from contrastive_jax.data.records import comparable
from contrastive_jax.data.samplers import Groups, Homogeneous, Identities, Mixture, Permutation, Weighted
from contrastive_jax.data.streams import Streams
from contrastive_jax.data.walks import ORDERS, Shuffles


class Known:
    """Records with the fields given."""

    name = "known"

    def __init__(self, **columns):
        self._columns = {name: np.asarray(values) for name, values in columns.items()}

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def column(self, name):
        return self._columns[name]


def added(count, seed, epoch):
    """The order that versions before there was a choice had."""
    if count < 512:
        return Streams(seed, "order").at(epoch, 0).permutation(count)
    return np.array(
        [index_shuffle(n, max_index=count - 1, seed=(seed + epoch) % 2**32, rounds=4) for n in range(count)]
    )


@pytest.mark.parametrize("count", [3, 511, 512, 700])
@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_the_first_order_adds_the_epoch_to_the_seed(count, seed):
    for epoch in range(3):
        places = np.random.default_rng(epoch).permutation(count)
        got = Shuffles(seed, 1)(places, np.full(count, epoch), count, part=epoch)
        assert np.array_equal(got, added(count, seed, epoch)[places])


def test_the_first_order_of_every_sampler_is_as_it_was():
    """Old runs go on with it, batch for batch."""
    source = Known(part=np.repeat([0, 1], [600, 300]), label=np.arange(900) // 2)
    steps, seed = range(9), 3

    draw = Permutation().bind(source, 256, seed, order=1)
    want = [added(900, seed, step // 3)[256 * (step % 3) :][:256] for step in steps]
    assert all(np.array_equal(draw(step)[:, 0], want[step]) for step in steps)

    draw = Groups("label").bind(source, 200, seed, order=1)
    want = [added(450, seed, step // 2)[200 * (step % 2) :][:200] for step in steps]
    assert all(np.array_equal(draw(step)[:, 0] // 2, want[step]) for step in steps)
    loose = Groups("label", unique=False).bind(source, 256, seed, order=1)
    assert np.array_equal(loose(4)[:, 0] // 2, added(900, seed, 1)[256:512] // 2)
    rows = Identities("label", 2).bind(source, 400, seed, order=1)
    assert all(np.array_equal(rows(step)[::2, 0] // 2, want[step]) for step in steps)

    draw = Mixture("part", weights=(2.0, 1.0)).bind(source, 90, seed, order=1)
    rows = np.concatenate([draw(step)[:, 0] for step in range(40)])
    for first, size in ((0, 600), (600, 300)):
        own = rows[(rows >= first) & (rows < first + size)]
        assert len(own) > 2 * size
        both = np.concatenate([added(size, seed, epoch) for epoch in range(5)])
        assert np.array_equal(own - first, both[: len(own)])

    draw = Homogeneous("part", weights=(1.0, 1.0)).bind(source, 300, seed, order=1)
    parts = [[draw(step)[:, 0] for step in range(8) if (draw(step)[0, 0] >= 600) == part] for part in (0, 1)]
    assert np.array_equal(np.concatenate(parts[0][:4]), np.concatenate([added(600, seed, e) for e in (0, 1)]))
    assert np.array_equal(
        np.concatenate(parts[1][:3]) - 600, np.concatenate([added(300, seed, e) for e in range(3)])
    )


def test_no_two_seeds_epochs_or_parts_share_an_order():
    for count in (100, 1000):
        places, seen = np.arange(count), set()
        for seed, epoch, part in itertools.product(range(3), range(4), range(3)):
            order = Shuffles(seed)(places, np.full(count, epoch), count, part)
            assert sorted(order.tolist()) == places.tolist()
            seen.add(order.tobytes())
        assert len(seen) == 3 * 4 * 3
    assert Shuffles(0) == Shuffles(0, ORDERS[-1])


def test_seeds_share_no_batch():
    """Epoch 1 of seed 0 was epoch 0 of seed 1."""
    source = Known(label=np.arange(1200))
    for sampler in (Permutation(), Groups("label"), Identities("label", 1), Weighted(balance="label")):
        for order, shared in ((1, not isinstance(sampler, Weighted)), (2, False)):
            draws = [sampler.bind(source, 400, seed, order) for seed in (0, 1)]
            sets = [{draw(step).tobytes() for step in range(9)} for draw in draws]
            assert bool(sets[0] & sets[1]) == shared


def test_parts_of_one_length_do_not_walk_in_step():
    """Translations that lie line by line in two files would always come together."""
    source = Known(part=np.repeat([0, 1], 1000))
    for order, most in ((1, 2000), (2, 40)):
        draw = Mixture("part", weights=(1.0, 1.0)).bind(source, 100, 0, order)
        rows = np.concatenate([draw(step)[:, 0] for step in range(20)])
        together = (rows[rows < 1000] == rows[rows >= 1000] - 1000).sum()
        assert together <= most
        assert (together > 900) == (order == 1)


def test_some_rows_are_those_of_the_whole():
    draw = Mixture("part", weights=(1.0, 1.0)).bind(Known(part=np.repeat([0, 1], 1000)), 100, 0)
    assert np.array_equal(draw(7, slice(30, 60)), draw(7)[30:60])


@pytest.mark.parametrize(
    "values", [[2**63 + 6, 2**63 + 5, 7], [-(2**60), 1 - 2**60, 0.5], [2**64 + 1, 2**64 + 2, 1.5]]
)
def test_groups_of_large_numbers_stay_apart(values):
    """NumPy makes floats of them, in which neighbours are equal."""

    class Numbers(Known):
        def column(self, name):
            return values

    source = Numbers(of=values)
    rows = Groups("of").bind(source, 3, seed=0)(0)[:, 0]
    assert sorted(rows.tolist()) == [0, 1, 2]
    assert comparable([1.5, 2]).dtype == np.float64
