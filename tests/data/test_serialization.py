import contextlib
import datetime
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.serialization import decode, decode_values, encode
from contrastive_jax.errors import InputError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ARRAYS = st.builds(
    lambda dtype, shape: np.arange(np.prod(shape)).reshape(shape).astype(dtype),
    st.sampled_from(["u1", "<i4", ">i8", "f4", "f8", "?"]),
    st.lists(st.integers(0, 3), max_size=3),
)
RECORDS = st.dictionaries(st.text(), JSON | st.binary(max_size=50) | ARRAYS, max_size=6)


@settings(max_examples=100, deadline=None)
@given(RECORDS)
def test_a_record_comes_back(record):
    again = decode(encode(record))
    assert again.keys() == record.keys()
    for field, value in record.items():
        if isinstance(value, np.ndarray):
            assert again[field].dtype == value.dtype.newbyteorder("<")
            assert np.array_equal(again[field], value)
        else:
            assert (type(again[field]), again[field]) == (type(value), value)
    binary = {field for field, value in record.items() if isinstance(value, (bytes, np.ndarray))}
    assert decode_values(encode(record)) == {f: v for f, v in record.items() if f not in binary}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 7))
def test_damaged_bytes_are_a_broken_record_or_another_one_but_no_other_error(noise, place, bit):
    content = bytearray(encode({"image": noise, "text": "a", "x": np.arange(3), "n": 1}))
    place %= len(content)
    with pytest.raises(BrokenRecord):
        decode(bytes(content[:place]))
    content[place] ^= 1 << bit
    with contextlib.suppress(BrokenRecord):
        decode(bytes(content))


def test_numbers_dates_and_decimals_become_plain():
    day = datetime.datetime(2020, 2, 3)
    again = decode(encode({"label": np.int32(3), "when": day, "share": np.float64(0.5), "all": [np.int8(1)]}))
    assert again == {"label": 3, "when": "2020-02-03T00:00:00", "share": 0.5, "all": [1]}


@pytest.mark.parametrize("value", [object(), np.array([object()]), [b"x"], {1j}])
def test_what_cannot_be_written_is_named(value):
    with pytest.raises(InputError, match="field 'thing'"):
        encode({"key": "a", "thing": value})


def test_an_array_of_objects_is_not_made_from_a_header():
    header = json.dumps({"values": {}, "bytes": [], "arrays": [["x", "|O", [1]]]}).encode()
    with pytest.raises(BrokenRecord):
        decode(b"cjr1" + len(header).to_bytes(4, "little") + header + bytes(8))
