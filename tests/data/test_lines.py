import csv
import gzip
import io
import logging
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data import lines
from contrastive_jax.data.delimited import CSV
from contrastive_jax.data.lines import JSONLines
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.errors import InputError


def test_records_are_read_by_their_place(captions):
    source = JSONLines(str(captions))
    assert len(source) == 40
    record = source[39]
    assert (record["text"], record["record"], record["key"]) == ("shade 39", 39, "39")
    assert record["image"] == (captions.parent / "39.png").read_bytes()
    assert sum(1 for index in range(40) if index != 30 and source[index]) == 39
    with pytest.raises(IndexError):
        source[40]


def test_blank_lines_and_a_missing_last_line_end(tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    content = ['{"image": "x.png", "text": "é one"}', "", " \t", '{"image": "x.png", "text": "two"}']
    (tmp_path / "c.jsonl").write_text("\n".join(content), encoding="utf-8")
    source = pickle.loads(pickle.dumps(JSONLines(str(tmp_path / "c.jsonl"))))
    assert [record["text"] for record in source] == ["é one", "two"]
    assert source.column("text") == ["é one", "two"]
    assert list(source.column("record")) == [0, 1]


def test_broken_lines_say_which(captions):
    source = JSONLines(str(captions))
    with pytest.raises(BrokenRecord, match="line 31: not JSON"):
        source[30]
    (captions.parent / "5.png").unlink()
    with pytest.raises(BrokenRecord, match="line 6: cannot read the picture"):
        source[5]
    assert source.column("text")[29:32] == ["shade 29", "", "shade 31"]


def test_text_alone_nested_objects_lists_and_keys(tmp_path):
    content = '{"_id": "d7", "a": {"b": {"c": 1}, "d": ["x", {"y": 2}]}, "none": null}\n{"key": 5}\n[1]\n3\n'
    (tmp_path / "c.jsonl").write_text(content)
    source = JSONLines(str(tmp_path / "c.jsonl"))
    nested = {"a.b.c": 1, "a.d": ["x", {"y": 2}], "none": None}
    assert source[0] == nested | {"_id": "d7", "key": "d7", "record": 0}
    assert source[1] == {"key": "5", "record": 1}
    for index in (2, 3):
        with pytest.raises(BrokenRecord, match=f"line {index + 1}: not a JSON object"):
            source[index]
    with pytest.raises(KeyError):
        source.column("b")
    assert source.column("a.b.c") == [1, "", "", ""]


def test_another_field_may_hold_the_path(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "x.png").write_bytes(b"picture")
    (tmp_path / "c.jsonl").write_text(
        '{"file_name": "p/x.png", "path": "nowhere"}\n{"path": "p/x.png"}\n{"n": 1}'
    )
    assert JSONLines(str(tmp_path / "c.jsonl"))[0]["image"] == b"picture"
    source = JSONLines(str(tmp_path / "c.jsonl"), image="path")
    assert source[1]["image"] == b"picture"
    with pytest.raises(BrokenRecord, match="line 3: 'path' is missing or no path"):
        source[2]


def test_an_empty_file_is_refused(tmp_path):
    for kind, name in ((JSONLines, "c.jsonl"), (CSV, "c.csv")):
        (tmp_path / name).write_text("\n\n")
        with pytest.raises(InputError, match="holds no line"):
            kind(str(tmp_path / name))


def test_a_packed_file(tmp_path):
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"n": 1}\n{"n": 2}\n'))
    assert JSONLines(str(tmp_path / "c.jsonl.gz")).column("n") == [1, 2]
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"n": 1}\n{"n": 2}\n')[:-9])
    with pytest.raises(InputError, match="cannot be unpacked"):
        JSONLines(str(tmp_path / "c.jsonl.gz"))


def test_several_files_name_the_one_that_is_broken(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    (tmp_path / "b.jsonl").write_text('{"n": 3}\n{\n')
    source = JSONLines(f"{tmp_path}/*.jsonl")
    assert source.column("n") == [1, 2, 3, ""]
    with pytest.raises(BrokenRecord, match=r"b\.jsonl, line 2: not JSON"):
        source[3]


def test_the_index_of_a_large_file_is_kept(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lines, "WORTH_KEEPING", 10)
    (tmp_path / "c.jsonl").write_text('{"n": 1}\n\n{"n": 2}\n')
    expected = list(JSONLines(str(tmp_path / "c.jsonl")))
    assert (tmp_path / "c.jsonl.index").exists()
    assert list(JSONLines(str(tmp_path / "c.jsonl"))) == expected
    with (tmp_path / "c.jsonl").open("a") as file:
        file.write('{"n": 3}\n')
    with caplog.at_level(logging.WARNING):
        assert JSONLines(str(tmp_path / "c.jsonl")).column("n") == [1, 2, 3]
    assert not caplog.records


FIELDS = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(FIELDS, min_size=3, max_size=3).filter(any), min_size=1, max_size=6),
    st.sampled_from([".csv", ".tsv"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_csv_as_pythons_writer_writes_it(tmp_path_factory, rows, ending, line_end):
    path = tmp_path_factory.mktemp("csv") / f"t{ending}"
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t" if ending == ".tsv" else ",", lineterminator=line_end)
    writer.writerows([["a", "b", "c"], *rows])
    path.write_bytes(buffer.getvalue().encode())
    source = CSV(str(path), quotes="double")
    assert [[record[name] for name in "abc"] for record in source] == rows
    assert source.column("b") == [row[1] for row in rows]


def test_csv_with_pictures_labels_and_a_mark_at_its_start(tmp_path):
    (tmp_path / "x.png").write_bytes(b"picture")
    content = "\ufeffimage,label,text\nx.png,3,a\nnone.png,-1,b\nx.png,cat,c\nx.png,1\n"
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    source = pickle.loads(pickle.dumps(CSV(str(tmp_path / "t.csv"))))
    assert source[0] == {"image": b"picture", "label": 3, "text": "a", "key": "0", "record": 0}
    assert source.column("label") == [3, -1, "cat", ""]
    with pytest.raises(BrokenRecord, match="line 3: cannot read the picture"):
        source[1]
    with pytest.raises(BrokenRecord, match="line 5: 2 fields where the header has 3"):
        source[3]


def test_csv_whose_quotes_never_end(tmp_path):
    (tmp_path / "t.csv").write_text('a,b\n1,"2"\n1,"' + "x\n" * 2000)
    with pytest.raises(InputError, match=r"t\.csv.*line 3: its quotes are never closed"):
        CSV(str(tmp_path / "t.csv"))


def test_lone_quotes_of_a_tsv_are_characters(tmp_path):
    rows = [f"{n}\tcaption {n}" for n in range(100)]
    rows[10], rows[90] = '10\t"Vintage poster', '90\tposter of the year"'
    (tmp_path / "t.tsv").write_text("a\tb\n" + "\n".join(rows) + "\n")
    source = CSV(str(tmp_path / "t.tsv"))
    assert [record["a"] for record in source] == [str(n) for n in range(100)]
    assert (source[10]["b"], source[90]["b"]) == ('"Vintage poster', 'poster of the year"')
    assert len(CSV(str(tmp_path / "t.tsv"), quotes="double")) == 20


def test_a_field_that_holds_whole_rows_is_named_once(tmp_path, caplog):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n0,"two\nlines"\n1,"with\na verse\nof\nits own"\n')
    assert len(CSV(str(path))) == 2
    assert not caplog.records
    path.write_text("a,b\n" + '1,"x\n2,y\n3,z\n4,z"\n' * 2)
    assert len(CSV(str(path))) == 2
    assert [record.message for record in caplog.records] == [
        f"{path}, line 2: a quoted field holds 2 lines that look like rows: "
        "?quotes=none if no quotes are meant"
    ]
    assert len(pickle.loads(pickle.dumps(CSV(str(path), quotes="none")))) == 8


def test_an_index_is_kept_for_each_way_to_read_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "WORTH_KEEPING", 10)
    (tmp_path / "t.csv").write_text('a;b\n1;"2\n3;4"\n5;6\n')
    for quotes, rows in (("double", 2), ("none", 3), ("double", 2)):
        assert len(CSV(str(tmp_path / "t.csv"), delimiter="semicolon", quotes=quotes)) == rows
    assert CSV(str(tmp_path / "t.csv"), delimiter="comma").column("a;b") == ['1;"2', '3;4"', "5;6"]


def test_other_delimiters_are_named_and_taken(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n1;2,5\n")
    (tmp_path / "t.TSV").write_text("a\tb\n1\t2,5\n")
    named = r"t\.csv, line 1: 'a;b' is one field: is \?delimiter=semicolon meant"
    with pytest.raises(InputError, match=named):
        CSV(str(tmp_path / "t.csv"))
    for source in (CSV(str(tmp_path / "t.csv"), delimiter="semicolon"), CSV(str(tmp_path / "t.TSV"))):
        record = pickle.loads(pickle.dumps(source))[0]
        assert (record["a"], record["b"]) == ("1", "2,5")
    with pytest.raises(InputError, match="delimiter is ';', not tab, semicolon, comma, bar"):
        CSV(str(tmp_path / "t.csv"), delimiter=";")


def test_real_lists(data_folder):
    source = JSONLines(f"{data_folder}/retrieval/cranfield/corpus.jsonl")
    assert len(source) == 1400
    assert source.column("key") == source.column("_id")
    triples = JSONLines(f"{data_folder}/nli/triples_train.jsonl")
    assert len(triples) == 6518
    labels = CSV(f"{data_folder}/fsdd/labels.tsv")
    assert len(labels) == 3000
    assert set(labels.column("split")) == {"train", "test"}
    text = JSONLines(f"{data_folder}/running_text/books_test.jsonl.gz")
    assert text[0]["title"]


def test_each_csv_file_has_the_delimiter_of_its_ending(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2 3\n")
    (tmp_path / "b.tsv").write_text("a\tb\n4\t5,6\n")
    source = CSV(f"{tmp_path}/{{a.csv,b.tsv}}")
    assert source.column("b") == ["2 3", "5,6"]
    assert [record["a"] for record in source] == ["1", "4"]


def test_a_key_that_is_null_is_none(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"key": null, "_id": "x"}\n{"key": null}\n')
    assert JSONLines(str(tmp_path / "c.jsonl")).column("key") == ["x", "1"]


def test_a_packed_csv_that_is_damaged_is_named(tmp_path):
    for name, content in (("a", b"a\n1\n"), ("b", b'a\n"1\n')):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=r"b\.csv\.gz, line 2: its quotes are never closed"):
        CSV(f"{tmp_path}/*.csv.gz")
