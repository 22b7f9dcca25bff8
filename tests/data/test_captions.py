import pickle

import pytest

from contrastive_jax.data.captions import Captions
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError


def test_records_are_read_by_their_place(captions):
    source = Captions(str(captions))
    assert len(source) == 40
    record = source[39]
    assert record["text"] == "shade 39"
    assert record["record"] == 39
    assert record["image"] == (captions.parent / "39.png").read_bytes()


def test_blank_lines_and_a_missing_last_line_end(tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    lines = ['{"image": "x.png", "text": "é one"}', "", '{"image": "x.png", "text": "two"}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = pickle.loads(pickle.dumps(Captions(str(tmp_path / "c.jsonl"))))
    assert [source[index]["text"] for index in range(len(source))] == ["é one", "two"]
    assert source.column("text") == ["é one", "two"]
    assert source.column("record").tolist() == [0, 2]


def test_broken_lines_say_which(captions):
    source = Captions(str(captions))
    with pytest.raises(BrokenRecord, match="line 31: not JSON"):
        source[30]
    (captions.parent / "5.png").unlink()
    with pytest.raises(BrokenRecord, match="line 6: cannot read the picture"):
        source[5]
    assert source.column("text")[29:32] == ["shade 29", "", "shade 31"]


@pytest.mark.parametrize("line", ["[1]", '{"text": "a"}', '{"image": "x", "text": 3}'])
def test_a_line_without_both_keys_is_broken(tmp_path, line):
    (tmp_path / "c.jsonl").write_text(line + "\n")
    with pytest.raises(BrokenRecord, match="line 1"):
        Captions(str(tmp_path / "c.jsonl"))[0]


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "c.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="holds no line"):
        Captions(str(tmp_path / "c.jsonl"))
