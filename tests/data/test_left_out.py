"""Files that a source reads, or counts by their endings in one warning."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from contrastive_jax.data import pictures
from contrastive_jax.data.pictures import PICTURES
from contrastive_jax.data.serialization import encode
from contrastive_jax.data.sources import open_source
from contrastive_jax.errors import InputError

ELSEWHERE = {"rgb", "rgba", "bw", "im", "ras", "msp", "cur", "vda", "vst", "icb", "pfm", "eps", "ps", "jpc"}


def test_endings_are_those_of_the_formats_that_are_read():
    Image.init()
    known = {
        ending.lstrip(".") for ending, of in Image.registered_extensions().items() if of in pictures._FORMATS
    }
    assert PICTURES - known <= {"avif", "avifs"}  # which not every Pillow has
    assert known - PICTURES <= ELSEWHERE


def test_a_folder_reads_every_picture_and_counts_the_rest(tmp_path, caplog):
    picture = Image.new("RGB", (32, 32), "red")
    made = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.pgm": "PPM", "d.ico": "ICO", "e.tga": "TGA", "F.PNG": "PNG"}
    for name, kind in made.items():
        picture.save(tmp_path / name, kind)
    for name in ("raw.nef", "raw.NEF", "notes.md", "Makefile", "a.txt"):
        (tmp_path / name).write_text("x")
    source = open_source(f"folder:{tmp_path}")
    assert [source[n]["key"] for n in range(len(source))] == sorted(made)
    for n in range(len(source)):
        assert pictures.look(source[n]["image"]).width == 32
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{tmp_path}: 4 files are left out, for their endings (.nef 2, ")
    assert ".md 1" in told
    assert "none 1" in told
    caplog.clear()
    (tmp_path / "raw.nef").unlink()
    (tmp_path / "raw.NEF").unlink()
    (tmp_path / "notes.md").unlink()
    (tmp_path / "Makefile").unlink()
    open_source(f"folder:{tmp_path}")
    assert not caplog.records


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_folder_of_lines_reads_all_their_forms(tmp_path, caplog, kind):
    """Packed ones, and such as end in capitals."""
    if kind == "jsonl":
        text, names = (
            f"{json.dumps({'text': 'a', 'n': 1})}\n",
            ("a.jsonl", "b.JSONL", "c.jsonl.gz", "d.ndjson"),
        )
    else:
        text, names = "text,n\na,1\n", ("a.csv", "b.CSV", "c.csv.gz", "d.tsv")
    for name in names:
        own = text.replace(",", "\t") if name.endswith("tsv") else text
        (tmp_path / name).write_bytes(gzip.compress(own.encode()) if name.endswith("gz") else own.encode())
    (tmp_path / "e.xlsx").write_text("x")
    source = open_source(f"{kind}:{tmp_path}")
    assert [(source[n]["text"], str(source[n]["n"])) for n in range(len(source))] == [("a", "1")] * 4
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{tmp_path}: 1 files are left out, for their endings (.xlsx 1)")
    caplog.clear()
    assert len(open_source(f"{kind}:{tmp_path}/a.*")) == 1  # whoever names files means these
    assert not caplog.records


def test_captions_and_tables_that_end_in_capitals_are_read(tmp_path):
    for name in ("A.JPG", "b.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, "JPEG")
    (tmp_path / "A.TXT").write_text("upper")
    (tmp_path / "b.txt").write_text("lower")
    (tmp_path / "b.TXT").write_text("the other")
    source = open_source(f"folder:{tmp_path}")
    assert [source[n]["text"] for n in range(2)] == list(source.column("text")) == ["upper", "lower"]
    (tmp_path / "A.TSV.GZ").write_bytes(gzip.compress(b"text\tn\na\t1\n"))
    assert open_source(f"csv:{tmp_path}/A.TSV.GZ")[0]["n"] == "1"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "webdataset", "parquet", "arrayrecord"])
def test_a_folder_in_which_nothing_ends_so_is_refused_with_what_does(tmp_path, kind):
    for name in ("a.heic", "b.HEIC", "c.json"):
        (tmp_path / name).write_text("x")
    told = rf"{tmp_path}: 3 files are left out, for their endings \(.heic 2, .json 1\); what is read: "
    with pytest.raises(InputError, match=told):
        open_source(f"{kind}:{tmp_path}")


def test_what_belongs_into_a_folder_of_shards_is_not_counted(tmp_path, caplog):
    for kind, write, beside in (
        ("arrayrecord", _array_record, "manifest.json"),
        ("parquet", _parquet, "_SUCCESS"),
    ):
        folder = tmp_path / kind
        folder.mkdir()
        write(folder / f"x.{kind}")
        (folder / beside).write_text("{}")
        assert len(open_source(f"{kind}:{folder}")) == 1
        assert not caplog.records


def _array_record(path):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    writer.write(encode({"text": "a"}))
    writer.close()


def _parquet(path):
    pq.write_table(pa.table({"text": ["a"]}), path)


@pytest.mark.parametrize("before", ["", "\ufeff", "\n  \n "])
@pytest.mark.parametrize("name", ["a.jsonl", "c.jsonl"])
def test_a_list_among_files_of_lines_is_refused_by_its_path(tmp_path, before, name):
    (tmp_path / "b.jsonl").write_text('[1, 2]\n{"text": "a"}\n{"text": "b"}\n')  # one record is broken
    assert len(open_source(f"jsonl:{tmp_path}")) == 3
    (tmp_path / name).write_text(before + json.dumps([{"text": "a"}] * 40))
    with pytest.raises(InputError, match=rf"{tmp_path}/{name}, which holds a JSON list"):
        open_source(f"jsonl:{tmp_path}")
