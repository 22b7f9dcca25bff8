import pickle

import numpy as np
import pytest

from contrastive_jax.data.glyphs import Glyphs
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError


def test_glyphs_by_name():
    assert len(open_source("glyphs")) == len(open_source("glyphs:train")) == len(Glyphs("train"))
    assert len(open_source("glyphs:held_out")) == len(Glyphs("held_out"))
    assert len(open_source("glyphs:held_out_characters")) == len(Glyphs("held_out", one_per_character=True))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("glyps", "did you mean glyphs?"),
        ("glyphs:heldout", "did you mean held_out?"),
        ("glyphs:held_out_character", "did you mean held_out_characters?"),
        ("parket:x", "did you mean parquet?"),
        ("parquet:nowhere", "no file nowhere"),
        ("jsonl", "jsonl:path"),
        ("tfds", "tfds:NAME/SPLIT"),
        ("webdataset:", "webdataset:path"),
        ("parquet:x?colums=a", "did you mean columns?"),
        ("digits:test", "known: all, all_sums, held_out, held_out_sums, train, train_sums"),
        ("jsonl:nowhere/at/all.jsonl", "nowhere/at/all.jsonl"),
    ],
)
def test_a_wrong_name_says_what_is_right(spec, words):
    with pytest.raises(InputError) as error:
        open_source(spec)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_options_a_glob_and_several_sources(tmp_path):
    lines = ['{"text": "a", "n": 1}', '{"text": " ", "n": 2}', '{"n": 3}', '{"text": "b", "n": null}']
    (tmp_path / "x1.jsonl").write_text("\n".join(lines))
    (tmp_path / "x2.jsonl").write_text('{"text": "c", "n": 5}')
    assert len(open_source(f"jsonl:{tmp_path}/x?.jsonl")) == 5
    assert open_source(f"jsonl:{tmp_path}/x?.jsonl?keep=text").column("text") == ["a", "b", "c"]
    both = open_source(f"jsonl:{tmp_path}/x1.jsonl?keep=text,n + jsonl:{tmp_path}/x2.jsonl")
    assert [record["n"] for record in both] == [1, 5]


def test_what_is_no_number_is_not_kept(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"age": NaN}\n{"age": 0.5}\n{"age": null}\n{"age": 0}\n')
    assert open_source(f"jsonl:{tmp_path}/x.jsonl?keep=age").column("age") == [0.5, 0]


def test_an_option_that_keeps_nothing(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a", "n": null}')
    with pytest.raises(InputError, match="no record of 1 is left"):
        open_source(f"jsonl:{tmp_path}/x.jsonl?keep=n")
    with pytest.raises(InputError, match="no field 'txt' to keep by; did you mean text"):
        open_source(f"jsonl:{tmp_path}/x.jsonl?keep=txt")


def test_a_list_of_keys_says_which_records_to_keep(tmp_path):
    (tmp_path / "x.jsonl").write_text("".join(f'{{"_id": "d{n}", "text": "{n}"}}\n' for n in range(5)))
    (tmp_path / "keys.txt").write_text("d3\nd1\nelsewhere\n")
    kept = open_source(f"jsonl:{tmp_path}/x.jsonl?keys={tmp_path}/keys.txt")
    assert [record["key"] for record in kept] == ["d1", "d3"]
    with pytest.raises(InputError, match=r"nokeys\.txt"):
        open_source(f"jsonl:{tmp_path}/x.jsonl?keys={tmp_path}/nokeys.txt")


def test_the_train_part_of_a_real_set_by_its_keys(data_folder):
    folder = data_folder / "code_search" / "cosqa"
    source = open_source(f"jsonl:{folder}/corpus.jsonl?keep=metadata.docstring&keys={folder}/train_ids.txt")
    assert 5000 < len(source) <= 5387
    assert source[0]["metadata.code_without_docstring"].startswith("def ")


@pytest.mark.parametrize("split", ["train", "held_out", "all"])
def test_digits(split):
    source = pickle.loads(pickle.dumps(open_source(f"digits:{split}")))
    record = source[7]
    assert record["image"].shape == (8, 8)
    assert record["image"].dtype == np.uint8
    assert source.column("label")[7] == record["label"]
    assert source.column("label_name")[7] == record["label_name"]
    assert {"train": 1400, "held_out": 320, "all": 1797}[split] <= len(source)
    pictures = {record["image"].tobytes() for record in source}
    assert max(int(np.frombuffer(picture, np.uint8).max()) for picture in pictures) == 255


def test_digits_are_split_without_overlap():
    train, held_out = (set(open_source(f"digits:{split}").column("key")) for split in ("train", "held_out"))
    assert train.isdisjoint(held_out)
    assert len(train | held_out) == 1797
