"""Records that a config leaves out."""

import numpy as np
import pytest

from contrastive_jax.data.digits import Digits
from contrastive_jax.data.pipeline import batches
from contrastive_jax.data.samplers import Groups, Permutation
from contrastive_jax.data.skipping import numbers_of
from contrastive_jax.data.views import Photo
from contrastive_jax.errors import InputError

SOURCE = Digits()
VIEWS = {"a": Photo(resolution=8), "b": Photo(resolution=8, member=1)}


def records(sampler, views, skip=frozenset(), members=1, **options):
    """[steps, rows, members]: the numbers of the records that are read."""
    fields = tuple(f"record:{m}" for m in range(members))
    with batches(SOURCE, sampler, views, fields=fields, seed=0, steps=6, skip=skip, **options) as stream:
        return np.array([[batch["fields"][name] for name in fields] for batch in stream])


def test_only_their_rows_change_and_get_what_a_broken_records_row_gets():
    sampler, view = Permutation().bind(SOURCE, 16, 0), {"a": VIEWS["a"]}
    plain = records(sampler, view)
    left_out = {int(plain[2, 0, 5]), int(plain[3, 0, 5])}  # the first one's place is taken by the second's
    found = records(sampler, view, frozenset(left_out))
    assert not np.isin(found, list(left_out)).any()
    changed = {(step, row) for step, row in zip(*np.nonzero((found != plain)[:, 0]))}
    assert changed == {(2, 5), (3, 5)}
    assert found[2, 0, 5] == plain[4, 0, 5]
    assert found[3, 0, 5] == plain[4, 0, 5]
    half = records(sampler, view, frozenset(left_out), rows=slice(4, 8))
    np.testing.assert_array_equal(half, found[:, :, 4:8])


def test_a_row_of_several_records_is_replaced_whole():
    sampler = Groups("label", members=2, unique=False).bind(SOURCE, 8, 0)
    plain = records(sampler, VIEWS, members=2)
    left_out = int(plain[1, 1, 3])
    found = records(sampler, VIEWS, frozenset({left_out}), members=2)
    assert not (found == left_out).any()
    np.testing.assert_array_equal(found[1, :, 3], plain[2, :, 3])


def test_they_are_named_by_key_or_number():
    key = SOURCE[7]["key"]
    assert numbers_of(SOURCE, ()) == frozenset()
    assert numbers_of(SOURCE, (key, 3)) == {7, 3}
    with pytest.raises(InputError, match=r"data\.skip: digits:train has no record of the key 'none such'"):
        numbers_of(SOURCE, (key, "none such"))
    with pytest.raises(InputError, match=r"has no record 99999"):
        numbers_of(SOURCE, (99999,))
    with pytest.raises(InputError, match="leaves no record"):
        numbers_of(SOURCE, tuple(range(len(SOURCE))))
