"""Batch fields: whole numbers as they are, everything else that can be told apart by ids of its own."""

import dataclasses
import pickle
from decimal import Decimal
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.delimited import CSV
from contrastive_jax.data.numbering import NoLabel, label, moved, numbering
from contrastive_jax.data.pipeline import batches
from contrastive_jax.data.samplers import Permutation
from contrastive_jax.errors import InputError


class Values:
    """Records of one field; `read`: whether the field may be read of all of them at once."""

    name = "values"

    def __init__(self, values, read=True):
        self.values, self._read = values, read

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return {"x": self.values[index]}

    def column(self, name):
        assert self._read, "nobody needs the whole column"
        if name != "x":
            raise KeyError(name)
        return self.values


def numbers(source, field="x"):
    """Those of all records."""
    found = pickle.loads(pickle.dumps(numbering(source, field)))  # as a worker gets it
    return [found([source[index]], [index]) for index in range(len(source))]


@pytest.mark.parametrize(
    "value",
    [
        *(
            3.7,
            0.83,
            float("nan"),
            float("inf"),
            2.0**60,
            "0.83",
            " 1e-3 ",
            ".5",
            "-2.5E0",
            "1e-400",
            "5.00000000000000000001",
            "",
            " ",
            None,
        ),
        *(np.float32(0.83), np.float64("nan"), np.array(3.7), pa.scalar(0.5), pa.scalar(None, pa.int64())),
        *(Decimal("0.83"), Decimal("NaN"), 1j, [1], b"3", np.arange(2), np.longdouble(3), pa.scalar([1])),
    ],
)
def test_what_is_no_label_is_refused(value):
    with pytest.raises(NoLabel):
        label(value)
    with pytest.raises(InputError, match="values, record 1: "):
        numbers(Values([7, value], read=False))


@pytest.mark.parametrize(
    "value",
    [
        *(
            3,
            3.0,
            "3",
            " 3 ",
            "3.0",
            "03",
            "+3",
            "3e0",
            np.int64(3),
            np.uint8(3),
            np.float16(3),
            np.array(3.0),
        ),
        *(pa.scalar(3), pa.scalar(3.0), pa.scalar("3"), Decimal("3.00")),
    ],
)
def test_whole_numbers_are_themselves_however_written(value):
    assert label(value) == 3
    assert numbers(Values([value, value])) == [3, 3]


@pytest.mark.parametrize(
    "value", ["cat", "nan", "inf", "1_000", "12e345", "+-3", "3-7", "1e99999999999", "9" * 200]
)
def test_texts_that_only_look_like_numbers_are_texts(value):
    assert label(value) == value


def test_true_and_false_are_numbers():
    assert numbers(Values([True, False, np.True_])) == [1, 0, 1]
    assert numbers(Values(np.array([True, False]))) == [1, 0]


def test_an_error_names_field_value_record_source_and_what_to_do():
    with pytest.raises(
        InputError,
        match=r"^values, record 70001: batch field 'x:1' is 0\.83, not a whole number; .*: give classes",
    ):
        numbering(Values(["a"] * 70_001 + [0.83, 0.84]), "x:1")
    with pytest.raises(InputError, match=r"record 2: batch field 'x' is \[\['c', "):
        numbering(Values(["a", "b", [["c"] * 1000] * 1000]), "x")
    with pytest.raises(
        InputError, match=r"record 1: batch field 'x' is a text, 'cat', and the first record's is"
    ):
        numbers(Values([1, "cat"], read=False))
    with pytest.raises(
        InputError, match=r"record 1: batch field 'x' is a number of more than 32 bits, 2147483648"
    ):
        numbers(Values([1, 2**31], read=False))
    with pytest.raises(InputError, match=r"record 1: it has no 'x', .* \?keep=x leaves such records out"):
        numbers(Values(["a", ""]))
    for error in ("a" * 10**6 + "\udc80", "0." + "8" * 10**6):
        with pytest.raises(InputError) as raised:
            numbers(Values([1, error], read=False))
        assert len(str(raised.value)) < 300


def test_a_first_whole_number_spares_the_pass_and_csv_files_of_numbers_keep_them(tmp_path):
    assert numbers(Values([5, -(2**31), 2**31 - 1], read=False)) == [5, -(2**31), 2**31 - 1]
    (tmp_path / "x.csv").write_text("x,y\n7,a\n-1,b\n12.0,c\n")
    assert numbers(CSV(f"{tmp_path}/x.csv")) == [7, -1, 12]


def test_a_million_texts_have_a_million_ids():
    texts = [f"caption number {number}" for number in range(1 << 20)]
    found = numbering(Values(texts), "x")
    assert 64 < len(found.moved) < 1024  # n^2 / 2^32 is 256
    hashes = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    hashes = np.frombuffer(hashes, ">u8").astype(np.uint64)
    ids = (hashes >> np.uint64(33)).astype(np.int64)
    assert len(np.unique(ids)) < 1 << 20
    collide = np.flatnonzero(np.isin(ids, ids[np.isin(hashes, found.moved)]))
    for place in collide.tolist():
        ids[place] = found([{"x": texts[place]}], [place])
    assert len(np.unique(ids)) == 1 << 20
    assert ids.min() >= 0
    assert ids.max() < 2**31
    for place in range(0, 1 << 20, 9973):
        assert found([{"x": texts[place]}], [place]) == ids[place]


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=60))
def test_ids_that_collide_are_moved_to_the_smallest_free_ones(pairs):
    """Against the plain loop, with hashes whose upper bits are nearly all taken."""
    hashes = sorted((fold << 33) | rest for fold, rest in pairs)
    used, own, want = {value >> 33 for value in hashes}, set(), {}
    for value in hashes:
        if value >> 33 in own:
            want[value] = next(free for free in range(100) if free not in used)
            used.add(want[value])
        own.add(value >> 33)
    found, ids = moved(np.array(hashes, np.uint64))
    assert dict(zip(found.tolist(), ids.tolist())) == want


VALUES = st.one_of(
    st.integers(-3, 12),
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        ["7", "007", "cat", "Cat", "cat ", "\udc80", "nan", "12e345", 2**31, 2**63, 2**63 + 1, 4.0]
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=20), st.randoms())
def test_equal_values_and_no_others_have_equal_numbers(values, random):
    """In a mixture too, in any order of the records, and always the same number."""
    values = [str(value) if random.random() < 0.2 else value for value in ["a text", *values]]
    found = numbers(Values(values))
    written = [value if isinstance(value, str) else str(int(value)) for value in values]
    for a, one in zip(written, found):
        assert 0 <= one < 2**31
        for b, other in zip(written, found):
            assert (a == b) == (one == other), (a, b)
    order = random.sample(range(len(values)), len(values))
    if isinstance(values[order[0]], str) or not -(2**31) <= values[order[0]] < 2**31:
        assert numbers(Values([values[place] for place in order])) == [found[place] for place in order]


def test_numbers_of_more_than_32_bits_have_ids_without_loss():
    values = [2**63 + 5, 2**63 + 6, 5, -1, 2**40]
    assert len(set(numbers(Values(values)))) == 5
    assert numbers(Values(np.array(values[:2], np.uint64)))[0] == numbers(Values(values[:2]))[0]


def test_absent_values_are_the_business_of_their_reading():
    """A column has an empty text where a record is broken, and training replaces that one."""
    source = Values(["a", "", "b", None, "a"])
    found = numbering(source, "x")
    assert found([source[0]], [0]) == found([source[4]], [4]) != found([source[2]], [2])
    assert not numbering(Values(["", "3", None, "4"]), "x").ids


def test_members_are_numbered_alike():
    found = numbering(Values(["a", "b"]), "x")
    second = dataclasses.replace(found, field="x:1")
    assert second([{"x": "b"}, {"x": "a"}], [1, 0]) == found([{"x": "a"}], [0])


def test_a_batch_names_what_is_no_label_from_a_worker_too():
    source = Values([1, 2, 3.7])
    sampler = Permutation(repeat=True).bind(source, 3, 0)
    for workers in (0, 1):
        with pytest.raises(
            InputError, match=r"values, record 2: batch field 'x' is 3\.7, not a whole number"
        ):
            next(batches(source, sampler, {}, fields=("x",), seed=0, steps=1, workers=workers))
