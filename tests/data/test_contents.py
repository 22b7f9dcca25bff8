"""What sources say that they are made of: the same wherever it lies, another when anything changed."""

import csv
import json
import os
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contrastive_jax.data import contents
from contrastive_jax.data.contents import Contents, as_json, difference, from_json
from contrastive_jax.data.docstrings import Docstrings
from contrastive_jax.data.serialization import encode
from contrastive_jax.data.sources import KINDS, moved, open_source

COUNT = 12
RECORDS = [
    {"key": f"k{n:02d}", "text": f"shade {n:02d}", "lang": "de" if n % 3 else "en"} for n in range(COUNT)
]


def write_csv(folder):
    with open(folder / "a.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, RECORDS[0])
        writer.writeheader()
        writer.writerows(RECORDS)


def write_jsonl(folder):
    for name, some in (("a", RECORDS[:5]), ("b", RECORDS[5:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in some))


def write_folder(folder):
    for n, record in enumerate(RECORDS):
        (folder / record["lang"]).mkdir(exist_ok=True)
        Image.new("L", (4, 4), n).save(folder / record["lang"] / f"{n:02d}.bmp")
        (folder / record["lang"] / f"{n:02d}.txt").write_text(record["text"])


def write_webdataset(folder):
    source = folder.parent / "loose"
    source.mkdir(exist_ok=True)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for record in RECORDS:
            (source / "text").write_text(record["text"])
            tar.add(source / "text", f"{record['key']}.txt")


def write_parquet(folder):
    pq.write_table(pa.Table.from_pylist(RECORDS), folder / "a.parquet", row_group_size=5, compression="none")


def write_arrayrecord(folder):
    module = pytest.importorskip("array_record.python.array_record_module")
    for name, some in (("a", RECORDS[:7]), ("b", RECORDS[7:])):
        writer = module.ArrayRecordWriter(str(folder / f"{name}.arrayrecord"), "group_size:1,uncompressed")
        for record in some:
            writer.write(encode(record))
        writer.close()


def write_beir(folder):
    (folder / "qrels").mkdir()
    for what in ("corpus", "queries"):
        lines = (json.dumps({"_id": r["key"], "text": r["text"]}) + "\n" for r in RECORDS)
        (folder / f"{what}.jsonl").write_text("".join(lines))
    judged = "".join(f"{r['key']}\t{r['key']}\t1\n" for r in RECORDS)
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")


WRITERS = {
    "arrayrecord": write_arrayrecord,
    "beir": write_beir,
    "csv": write_csv,
    "folder": write_folder,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "webdataset": write_webdataset,
}


def opened(kind, folder, options=""):
    return open_source(f"{kind}:{folder}{'/test' * (kind == 'beir')}{options}")


@pytest.fixture(params=sorted(WRITERS))
def made(request, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    WRITERS[request.param](folder)
    return request.param, folder


def largest(folder):
    return max(
        (p for p in folder.rglob("*") if p.suffix not in (".index", "")), key=lambda p: p.stat().st_size
    )


def test_a_copy_elsewhere_written_at_another_time_is_the_same(made, tmp_path):
    kind, folder = made
    before = opened(kind, folder).contents()
    assert before[0].records == COUNT
    assert before[0].bytes == sum(before[0].files.values()) > 0
    shutil.copytree(folder, tmp_path / "elsewhere" / "deep")
    for file in (tmp_path / "elsewhere").rglob("*"):
        os.utime(file, (1, 1))
    after = opened(kind, tmp_path / "elsewhere" / "deep").contents()
    assert difference(after, before) == ""
    assert from_json(json.loads(json.dumps(as_json(before)))) == before


def test_a_byte_that_changed_is_noticed_and_its_file_named(made):
    kind, folder = made
    before, file = opened(kind, folder).contents(), largest(folder)
    content = bytearray(file.read_bytes())
    at = content.rindex(b"shade") if b"shade" in content else len(content) - 1
    content[at] = ord("b")
    file.write_bytes(content)
    words = difference(opened(kind, folder).contents(), before)
    assert f"{file.name} has the same size and another content now than then" in words


def test_a_file_that_grew_or_is_gone_is_named_with_its_sizes(tmp_path):
    write_jsonl(tmp_path)
    source, file = f"jsonl:{tmp_path}", tmp_path / "b.jsonl"
    before, size = open_source(source).contents(), (tmp_path / "b.jsonl").stat().st_size
    with file.open("a") as more:
        more.write(json.dumps(RECORDS[0]) + "\n")
    grown = file.stat().st_size
    words = difference(open_source(source).contents(), before, "here", "there")
    assert words == f"{source}: 13 records here, 12 there; b.jsonl: {grown} bytes here, {size} bytes there"
    file.unlink()
    words = difference(open_source(source).contents(), before)
    assert words == f"{source}: 5 records now, 12 then; b.jsonl: none now, {size} bytes then"


def test_files_in_another_order_are_others(tmp_path):
    write_jsonl(tmp_path)
    one, other = (open_source(f"jsonl:{tmp_path}/{{{names}}}.jsonl").contents() for names in ("a,b", "b,a"))
    assert "another order" in difference(one, other)


def test_of_many_files_folders_are_named_and_of_many_folders_counts(tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.setattr(contents, "LISTED", 5)
    before = open_source(f"folder:{tmp_path}").contents()
    assert set(before[0].files) == {"de/", "en/"}
    (tmp_path / "de" / "01.txt").write_text("longer than before")
    words = difference(open_source(f"folder:{tmp_path}").contents(), before)
    assert "de/: " in words
    assert "bytes now" in words
    monkeypatch.setattr(contents, "LISTED", 1)
    words = difference(open_source(f"folder:{tmp_path}").contents(), before)
    assert "24 files of" in words


def test_blocks_all_over_a_large_file_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "_BLOCKS", 4)
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "x"}\n' * 10_000)
    size, found = file.stat().st_size, set()
    for at in (5, size // 3, 2 * size // 3, size - 5, None):
        content = bytearray(b'{"text": "x"}\n' * 10_000)
        content[at or 0] ^= at is not None
        file.write_bytes(content)
        found.add(contents.of_files("a", 1, [str(file)]).samples["a.jsonl"])
    assert len(found) == 5


@pytest.mark.parametrize("options", ["keys={}", "balance=text:20:{}"])
def test_a_list_that_an_option_names_is_part_of_it(tmp_path, options):
    write_jsonl(tmp_path)
    listed = tmp_path / "listed.txt"
    spec = f"jsonl:{tmp_path}?{options.format(listed)}"
    found = []
    for some in (range(6), range(6), range(1, 7)):
        listed.write_text("".join(f"{RECORDS[n]['key' if 'keys' in options else 'text']}\n" for n in some))
        found.append(open_source(spec).contents())
    assert difference(*found[:2]) == ""
    assert "other content" in difference(*found[1:])


@pytest.mark.parametrize(
    "spec",
    [
        "jsonl:{}?where=lang:de&part=key:0:0.7",
        "jsonl:{} + csv:{}",
        "jsonl:{}?exchange=text:0.5&rename=text:t",
    ],
)
def test_what_is_made_of_a_source_is_made_of_its_files(tmp_path, spec):
    write_jsonl(tmp_path)
    write_csv(tmp_path)
    before = open_source(spec.format(tmp_path, tmp_path)).contents()
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write(json.dumps(RECORDS[0]) + "\n")
    assert "b.jsonl" in difference(open_source(spec.format(tmp_path, tmp_path)).contents(), before)


@pytest.mark.parametrize("kind", ["glyphs", "digits:train", "digits:train_sums"])
def test_embedded_data_are_known_by_what_they_hold(kind):
    (first, *_), (again, *_) = open_source(kind).contents(), open_source(kind).contents()
    assert (first, first.files) == (again, {})
    other = Contents(first.name, first.records, content="0", versions={**first.versions, "it": "2"})
    assert difference([other], [first]).endswith("other content now than then (it 2 now, none then)")


def test_functions_of_packages_are_known_by_their_lines_and_not_by_where_they_lie(tmp_path):
    found = []
    for place, code in (("a", "x = 1"), ("b", "x = 1"), ("b", "x = 2")):
        line = {"key": "k", "docstring": "d", "code": code, "file": f"/{place}/m.py"}
        (tmp_path / "train.jsonl").write_text(json.dumps(line) + "\n")
        found.append(Docstrings("train", str(tmp_path / "train.jsonl")).contents())
    assert difference(*found[:2]) == ""
    assert "other content" in difference(*found[1:])


@pytest.mark.parametrize("options", ["", "?where=text:shade 07", "?exchange=text:0.5", "?rename=text:words"])
def test_a_column_of_some_records_is_that_part_of_it(made, options):
    kind, folder = made
    source = opened(kind, folder, options)
    for name in ("key", "text", "record", *(["words"] * ("words" in options))):
        whole = list(source.column(name))
        for rows in (range(len(source)), range(len(source))[1::4], [len(source) - 1]):
            assert list(source.column(name, rows)) == [whole[row] for row in rows]


@pytest.mark.parametrize("spec", ["glyphs", "digits:train", "digits:held_out_sums", "jsonl:{} + csv:{}"])
def test_a_column_of_some_records_elsewhere(tmp_path, spec):
    write_jsonl(tmp_path)
    write_csv(tmp_path)
    source = open_source(spec.format(tmp_path, tmp_path))
    for name in {"key", "record", "source", "text", "label", "lang", "sum"} & {*source[0]}:
        whole, rows = source.column(name), [1, 2, 7, len(source) - 1]
        np.testing.assert_array_equal(source.column(name, rows), [whole[row] for row in rows])


def test_only_the_rows_asked_for_are_read(tmp_path, monkeypatch):
    write_jsonl(tmp_path)
    source, read = open_source(f"jsonl:{tmp_path}"), []
    plain = type(source._parts).read
    monkeypatch.setattr(type(source._parts), "read", lambda self, *at: read.append(at) or plain(self, *at))
    source.column("text", [2, 9])
    assert len(read) == 2


def test_files_that_moved():
    assert moved("jsonl:a/x.jsonl?keep=text&keys=l.txt", "jsonl:s3://b/x.jsonl?keys=/m/l.txt&keep=text")
    assert moved("beir:a/test + folder:c", "beir:b/test + folder:d")
    for one, other in [("jsonl:a", "csv:a"), ("beir:a/test", "beir:a/train"), ("glyphs", "glyphs:all")]:
        assert not moved(one, other)
    assert not moved("jsonl:a?keep=text", "jsonl:a?keep=title")
    assert not moved("jsonl:a", "jsonl:a + jsonl:b")
    assert {*WRITERS} <= {*KINDS}
