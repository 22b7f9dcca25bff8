import numpy as np

from contrastive_jax.data.streams import Streams


def test_numbers_depend_on_the_address_alone():
    one, other = Streams(3, "image"), Streams(3, "image")
    one.at(0, 0).random(17)
    one.at(2, 1).integers(5)
    assert np.array_equal(one.at(9, 4).random(5), other.at(9, 4).random(5))


def test_every_part_of_the_address_counts():
    draws = [
        Streams(seed, name).at(step, position).random(4).tobytes()
        for seed in (0, 1)
        for name in ("image", "text")
        for step in (0, 1)
        for position in (0, 1)
    ]
    assert len(set(draws)) == 16
