"""Parts of a source by a hash, balanced ones, and values that stand with the wrong records."""

import contextlib
import json
import pickle

import numpy as np
import pytest

from contrastive_jax.data import curation
from contrastive_jax.data.digit_sums import PAIRS
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.sources import open_source, with_keys
from contrastive_jax.errors import InputError

TEXTS = [f"person {i % 7} skin" for i in range(400)] + [f"thing{i}, rare" for i in range(40)] + ["a person"]


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    return f"jsonl:{path}"


def ids(source):
    return [source[i]["id"] for i in range(len(source))]


def test_parts_are_apart_and_equal_values_together(lines):
    low, high = open_source(f"{lines}?part=id:0:0.8"), open_source(f"{lines}?part=id:0.8:1")
    assert sorted([*ids(low), *ids(high)]) == list(range(len(TEXTS)))
    assert len(low) / len(TEXTS) == pytest.approx(0.8, abs=0.06)
    assert set(ids(open_source(f"{lines}?part=id:0:0.3"))) < set(ids(low))
    one, other = (set(open_source(f"{lines}?part=text:{part}").column("text")) for part in ("0:0.5", "0.5:1"))
    assert not one & other
    again = pickle.loads(pickle.dumps(low))
    assert ids(again) == list(low.column("id")) == ids(low)
    assert again.name == low.name == f"{open_source(lines).name}?part=id:0:0.8"


def test_a_balanced_part_is_that_of_curation(lines):
    source = open_source(f"{lines}?balance=text:9")
    words = sorted({word for text in TEXTS for word in curation.words_of(text)})
    matches = curation.match(TEXTS, words)
    kept = curation.balance(matches, curation.counts(matches, len(words)), 9, key=0)
    assert ids(source) == ids(pickle.loads(pickle.dumps(source))) == np.flatnonzero(kept).tolist()
    assert set(range(400, 441)) <= set(ids(source))  # each of them has a word that is rare
    assert len(source) < 200


def test_entries_of_a_file_say_what_is_drowned(lines, tmp_path):
    (tmp_path / "entries.txt").write_text("rare\n")
    assert ids(open_source(f"{lines}?balance=text:1000:{tmp_path}/entries.txt")) == list(range(400, 440))
    assert with_keys(f"{lines}?balance=text:9&keep=text", "k") == f"{lines}?keep=text&keys=k"


def test_exchanged_values_are_all_still_there(lines):
    source = open_source(f"{lines}?exchange=id:0.25")
    found = ids(source)
    assert sorted(found) == list(range(len(TEXTS)))
    assert sum(a != b for a, b in enumerate(found)) == round(0.25 * len(TEXTS))
    assert list(source.column("id")) == found == ids(pickle.loads(pickle.dumps(source)))
    assert list(source.column("text")) == [source[i]["text"] for i in range(len(source))] == TEXTS


def test_a_record_that_has_nothing_to_give_breaks_the_one_that_takes(tmp_path):
    rows = [{"id": i} | ({"text": str(i)} if i % 2 == 0 else {}) for i in range(6)]
    (tmp_path / "half.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = open_source(f"jsonl:{tmp_path}/half.jsonl?exchange=text:1")
    found = []
    for index in range(len(source)):
        with contextlib.suppress(BrokenRecord):
            found.append(source[index]["text"])
    assert sorted(found) == ["0", "2", "4"]


def test_lists_of_texts_are_balanced_too(tmp_path):
    rows = [{"text": ["a dog", f"number{i}"]} for i in range(9)]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "entries").write_text("number3\nnumber5\n")
    assert len(open_source(f"jsonl:{tmp_path}/c.jsonl?balance=text:1:{tmp_path}/entries")) == 2


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("part=id", "FIELD:LOW:HIGH"),
        ("part=id:0.5:0.2", "ascending"),
        ("part=ids:0:0.5", "did you mean id"),
        ("part=id:0:0.000001", "no record of 441 is left"),
        ("balance=text", "a CAP above 0"),
        ("balance=text:0", "a CAP above 0"),
        ("balance=txt:3", "did you mean text"),
        ("balance=text:3:nowhere.txt", "balance=: nowhere.txt: cannot be read"),
        ("exchange=id:2", "a share up to 1"),
        ("exchange=ids:0.5", "did you mean id"),
    ],
)
def test_what_is_refused(lines, option, words):
    with pytest.raises(InputError, match=words):
        open_source(f"{lines}?{option}")


def test_sums_of_digits():
    source, digits = open_source("digits:train_sums"), open_source("digits:train")
    assert len(source) == PAIRS * len(digits)
    first, second, sums = (np.array(source.column(name)) for name in ("label", "other_label", "sum"))
    np.testing.assert_array_equal(sums, (first + second) % 10)
    for each in (first, second):  # neither tells the sum
        table = np.histogram2d(each, sums, bins=10)[0] / len(source)
        assert table.max() < 0.02
    for i in (0, len(digits), len(source) - 1):
        record = source[i]
        np.testing.assert_array_equal(record["image"], digits[i % len(digits)]["image"])
        assert record["sum_name"] == source.column("sum_name")[i]
        assert record["sum"] == (record["label"] + record["other_label"]) % 10
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[5]["other"], source[5]["other"])
