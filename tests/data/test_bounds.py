import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_jax.data.bounds import check_record
from contrastive_jax.data.lines import JSONLines
from contrastive_jax.data.records import BrokenRecord, flatten
from contrastive_jax.named_files import json_of


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a":' * 200_000, b"{", b"\xff", b""])
def test_json_that_is_none_is_a_value_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError):
        json_of(tmp_path / "a.json")


def test_records_up_to_a_bound():
    check_record(1 << 30)
    with pytest.raises(BrokenRecord, match="it is 1,073,741,825 bytes, and at most 1,073,741,824 are read"):
        check_record((1 << 30) + 1)


def plainly(value, start=""):
    flat = {}
    for name, inner in value.items():
        flat |= plainly(inner, f"{start}{name}.") if isinstance(inner, dict) else {start + name: inner}
    return flat


NESTED = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text("ab.", max_size=2), NESTED, max_size=3))
def test_nested_objects_as_one(value):
    assert list(flatten(value).items()) == list(plainly(value).items())
    assert flatten(value, "x.") == plainly(value, "x.")


def test_long_names_of_nested_objects_are_not_multiplied(tmp_path):
    wide = {"k" * 10_000: {str(number): 1 for number in range(5000)}}  # 60 kB that would be 50 MB
    deep = {"a": 1}
    for _ in range(800):
        deep = {"k" * 100: deep}  # 80 kB that would be 32 MB
    lines = [json.dumps(wide), json.dumps(deep), '{"a": {"b": 1}}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    source = JSONLines(str(tmp_path / "c.jsonl"))
    for index in (0, 1):
        with pytest.raises(BrokenRecord, match=f"line {index + 1}: the names of its nested"):
            source[index]
    assert source[2]["a.b"] == 1
