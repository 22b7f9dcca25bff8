"""What follows a question mark: records that are kept, fields with another name."""

import json
import os
import pickle
from pathlib import Path

import pytest

from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError

CIFAR = Path(os.environ.get("CONTRASTIVE_JAX_DATA", "../shared/data")) / "cifar10/train.parquet"
RECORDS = [
    {"id": "a", "text": "one", "lang": "deu", "checked": True, "grade": 3},
    {"id": "b", "text": " ", "lang": "deu", "checked": False, "grade": 2},
    {"id": "c", "text": "three", "lang": "fra", "checked": True, "grade": 3},
    {"id": "d", "text": "four", "lang": "deu", "checked": True, "grade": 1},
]


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return f"jsonl:{path}"


@pytest.mark.parametrize(
    ("option", "kept"),
    [
        ("where=lang:deu", "abd"),
        ("where=checked:true", "acd"),
        ("where=grade:3", "ac"),
        ("where=lang:deu,checked:true", "ad"),
        ("where=lang:deu&keep=text", "ad"),
    ],
)
def test_records_of_a_value_are_kept(lines, option, kept):
    source = open_source(f"{lines}?{option}")
    assert [source[i]["id"] for i in range(len(source))] == list(kept)
    assert list(source.column("id")) == list(kept)
    assert [source[i]["record"] for i in range(len(source))] == list(range(len(kept)))
    again = pickle.loads(pickle.dumps(source))
    assert list(again.column("id")) == list(kept)
    assert option.partition("&")[0] in source.name


LABELS = [label for label in range(5) for _ in range(100)]


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text(
        "".join(json.dumps({"label": label, "a": i % 2}) + "\n" for i, label in enumerate(LABELS))
    )
    return f"jsonl:{path}"


def test_a_long_tail_falls_exponentially(labels):
    source = open_source(f"{labels}?tail=label:0.01")
    counts = [list(source.column("label")).count(label) for label in range(5)]
    assert counts == [100, 31, 10, 3, 1]  # 100 x 0.01^(i / 4), rounded down
    assert "?tail=label:0.01" in source.name
    assert list(source.column("record")) == list(range(145))
    keys = set(source.column("key"))
    assert keys == set(open_source(f"{labels}?tail=label:0.01").column("key"))
    assert keys == set(pickle.loads(pickle.dumps(source)).column("key"))
    assert keys < set(open_source(f"{labels}?tail=label:0.1").column("key"))
    assert len(open_source(f"{labels}?tail=label:1")) == 500
    # Not the first ones of a label.
    second = [int(key) for key in source.column("key") if 100 <= int(key) < 200]
    assert max(second) > 150
    half = open_source(f"{labels}?where=a:0&tail=label:0.01")
    assert [list(half.column("label")).count(label) for label in range(5)] == [50, 15, 5, 1, 1]


@pytest.mark.skipif(not CIFAR.exists(), reason=f"no {CIFAR}")
def test_the_long_tailed_cifar_of_the_papers():
    """CIFAR-10-LT with an imbalance of 100, as Cui et al. 2019 count it."""
    labels = list(open_source(f"parquet:{CIFAR}?tail=label:0.01").column("label"))
    known = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert [labels.count(label) for label in range(10)] == known


@pytest.mark.parametrize("lacks", [{}, {"label": None}, {"label": " "}])
@pytest.mark.parametrize("place", [0, 7])
def test_a_record_without_a_label_is_of_no_tail(tmp_path, lacks, place):
    lines = [{"label": label} for label in [0] * 50 + [1] * 50]
    lines.insert(place, lacks)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = list(open_source(f"jsonl:{tmp_path}/x.jsonl?tail=label:0.1").column("label"))
    assert (len(found), found.count(0), found.count(1)) == (55, 50, 5)


def test_a_tail_of_labels_that_all_lack_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"label": null}\n' * 3)
    with pytest.raises(InputError, match="no record has a value in 'label'"):
        open_source(f"jsonl:{tmp_path}/x.jsonl?tail=label:0.1")


def test_a_tail_of_unequal_labels_and_of_one(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(
        "".join(json.dumps({"label": label}) + "\n" for label in ["a"] * 2 + ["b"] * 50 + ["c"] * 9)
    )
    counts = list(open_source(f"jsonl:{path}?tail=label:0.5").column("label"))
    assert [counts.count(label) for label in "abc"] == [2, 35, 9]
    assert len(open_source(f"jsonl:{path}?where=label:b&tail=label:0.5")) == 50


@pytest.mark.parametrize(
    "option", ["tail=label", "tail=label:0", "tail=label:2", "tail=:0.1", "tail=label:x"]
)
def test_a_tail_that_says_nothing(labels, option):
    with pytest.raises(InputError, match="give FIELD:RATIO, of the rarest value to the commonest"):
        open_source(f"{labels}?{option}")


def test_a_tail_of_an_unknown_field(labels, tmp_path):
    with pytest.raises(InputError, match="no field 'lable' to keep by; did you mean label"):
        open_source(f"{labels}?tail=lable:0.1")
    (tmp_path / "y.jsonl").write_text('{"label": 1}\n{"label": "a"}\n')
    with pytest.raises(InputError, match="'label' holds values that cannot be sorted"):
        open_source(f"jsonl:{tmp_path}/y.jsonl?tail=label:0.1")


def test_no_record_left_is_an_error(lines):
    with pytest.raises(InputError, match=r"where=lang:dex.*no record of 4 is left"):
        open_source(f"{lines}?where=lang:dex")
    with pytest.raises(InputError, match=r"no field 'lnag' to keep by; did you mean lang\?"):
        open_source(f"{lines}?where=lnag:deu")


def test_a_field_has_its_new_name_and_its_own(lines):
    source = open_source(f"{lines}?where=lang:fra&rename=text:query,grade:number")
    assert source[0]["query"] == source[0]["text"] == "three"
    assert list(source.column("query")) == list(source.column("text")) == ["three"]
    assert pickle.loads(pickle.dumps(source))[0]["number"] == 3
    with pytest.raises(InputError, match=r"no field 'txet'; did you mean text\?"):
        open_source(f"{lines}?rename=txet:query")


def test_a_record_may_lack_the_field_that_is_renamed(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a": 2, "b": 3}\n')
    source = open_source(f"jsonl:{tmp_path}/x.jsonl?rename=b:c")
    assert ["c" in record for record in source] == [False, True]


def test_renamed_parts_stand_beside_each_other(lines):
    source = open_source(f"{lines}?rename=text:query + {lines}?rename=lang:query")
    assert list(source.column("query")) == ["one", " ", "three", "four", "deu", "deu", "fra", "deu"]


def test_titles_are_queries_of_their_texts(tmp_path):
    documents = [("1", "a title", "a text"), ("2", "", "no title"), ("3", "no text", "")]
    lines = (json.dumps({"_id": i, "title": title, "text": text}) for i, title, text in documents)
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    source = open_source(f"beir:{tmp_path}/titles")
    found = [(record["query"], record["document"]) for record in (source[0], source[1])]
    assert len(source) == 2
    assert found == [("a title", "a text"), ("no title", "no title")]


def test_sources_without_an_argument_have_options_too():
    source = open_source("digits?where=label:3")
    assert set(source.column("label")) == {3}
    glyphs = open_source("glyphs:held_out?where=character:39")  # a column of numpy's numbers
    assert set(map(int, glyphs.column("character"))) == {39}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("keep=text&keep=lang", "option 'keep' stands there twice"),
        ("rename=text", "option rename='text': give OWN:NEW"),
        ("rename=text:", "option rename='text:': give OWN:NEW"),
        ("where=lang", "option where='lang': give FIELD:VALUE"),
    ],
)
def test_options_that_say_nothing(lines, option, words):
    with pytest.raises(InputError) as error:
        open_source(f"{lines}?{option}")
    assert words in str(error.value)


def test_a_broken_first_record_does_not_close_a_source(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"image": "none.png"}\n{"image": "x.png", "a": 1}\n')
    (tmp_path / "x.png").write_bytes(b"picture")
    source = open_source(f"jsonl:{tmp_path}/x.jsonl?rename=image:picture")
    assert source[1]["picture"] == b"picture"
    with pytest.raises(InputError, match=r"no field 'b' to keep by; .*known: a, image"):
        open_source(f"jsonl:{tmp_path}/x.jsonl?keep=b")


def test_a_list_of_keys_that_is_no_file_names_its_source(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    spec = f"jsonl:{tmp_path}/x.jsonl?keys=/dev/zero"
    with pytest.raises(InputError, match=r"source 'jsonl:.*cannot read /dev/zero \('/dev/zero' is a device"):
        open_source(spec)
