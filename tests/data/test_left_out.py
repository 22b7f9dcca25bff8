"""Files that a source reads, or counts by their endings in one warning."""

import gzip
import json

import pytest
from PIL import Image

from contrastive_jax.data import pictures
from contrastive_jax.data.pictures import PICTURES
from contrastive_jax.data.sources import open_source

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
