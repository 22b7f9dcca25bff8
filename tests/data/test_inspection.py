"""What `data inspect` says of odd values is still JSON, and is said."""

import json
import math

import numpy as np
import pytest

from contrastive_jax.data.inspection import inspect
from contrastive_jax.data.sources import open_source


class Values:
    """A source of records with one field."""

    name = "values"

    def __init__(self, values):
        self._values = values

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return {"key": str(index), "record": index, "x": self._values[index]}

    def column(self, name):
        return [self[index][name] for index in range(len(self))]


def seen(*values):
    found = inspect(Values(values), range(len(values)))
    again = json.loads(json.dumps(found, ensure_ascii=False).encode(), parse_constant=pytest.fail)
    return again["fields"]["x"]


def test_numbers_that_are_none_or_endless_have_no_place_in_the_range():
    field = seen(math.inf, -math.inf, math.nan, 2.0, 0.5)
    assert (field["minimum"], field["maximum"]) == (0.5, 2)
    assert field["examples"] == ["inf", "-inf", "nan"]
    assert "minimum" not in seen(math.inf)


def test_numbers_of_any_size_and_kind():
    field = seen(10**400, 3, np.int8(-7), np.float32(0.5))
    assert (field["minimum"], field["maximum"]) == (-7, 10**400)
    assert field["types"] == {"whole number": 3, "number": 1}
    assert seen(True)["types"] == {"bool": 1}


def test_halves_of_characters_are_escaped(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"key": "\\ud83d", "t": ["\\ud83d"]}\n' * 2 + '{"image": "\\ud83d"}\n')
    source = open_source(f"jsonl:{tmp_path}/x.jsonl")
    found = inspect(source, range(3))
    json.dumps(found, ensure_ascii=False).encode()
    assert found["duplicate_key_examples"] == ["\\ud83d"]
    assert found["fields"]["key"]["examples"] == ["\\ud83d"]
    assert found["broken"] == 1
