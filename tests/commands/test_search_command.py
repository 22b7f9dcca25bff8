"""`contrastive-jax search`: what it finds against brute force, which branch it takes, wrong input."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from answers import best, found
from PIL import Image
from refusals import CONFIGS, refused
from small_run import write_untrained

from contrastive_jax import cli
from contrastive_jax.data import docstrings
from contrastive_jax.data.sources import open_source
from contrastive_jax.evaluation.embedding import Listed
from contrastive_jax.evaluation.embeddings import Part, write
from contrastive_jax.training.trained import open_trained

pytestmark = pytest.mark.usefixtures("opened_once")


def test_a_text_finds_what_brute_force_finds(in_process, line, embedded):
    """Without a word on branches: the first loss compares pictures with texts, so a text finds pictures."""
    answer = found(in_process(*line, "--json", "--k", "5", "--query-branch", "text", "a green circle"))
    assert (answer["query_branch"], answer["branch"], answer["method"]) == ("text", "image", "exact")
    trained = open_trained(line[2])
    with jax.set_mesh(trained.experiment.mesh):
        query = trained.embedder(8)("text", Listed("query", [{"text": "a green circle"}]))[0]
    scores = embedded["image"] @ query
    assert [one["record"] for one in answer["results"]] == best(scores, 5)
    assert [one["key"] for one in answer["results"]] == [f"k{n}" for n in best(scores, 5)]
    np.testing.assert_allclose(
        [one["score"] for one in answer["results"]], np.sort(scores)[::-1][:5], atol=1e-5
    )
    assert all("image" not in one and one["text"].startswith("a ") for one in answer["results"])


def test_a_document_is_found_by_its_own_text_and_shown_in_a_table(in_process, line, small):
    document = open_source(f"jsonl:{small}/pairs.jsonl")[17]["document"]
    code, out, err = in_process(*line, "--query-branch", "document", "--branch", "document", document)
    assert code == 0, err
    first = out.splitlines()[1]
    assert first.split()[:3] == ["1", "1.000", "k17"]
    assert "exact search of 40 records" in out
    assert "embedding 40 records" in err


def test_a_picture_finds_itself_and_a_sheet_is_drawn(in_process, line, small, embedded, tmp_path):
    picture = f"{small}/pictures/23.png"
    answer = found(in_process(*line, "--branch", "image", "--json", "--output", str(tmp_path / "s"), picture))
    assert answer["query_branch"] == "image"
    assert answer["results"][0]["record"] == 23
    assert [one["record"] for one in answer["results"]] == best(embedded["image"] @ embedded["image"][23], 10)
    with Image.open(answer["contact_sheet"]) as sheet:
        assert np.asarray(sheet.convert("L")).std() > 10


def test_a_disk_without_room_for_the_sheet_is_a_fault(in_process, line, little_room, tmp_path):
    asked = [*line, "--query-branch", "text", "--branch", "text", "--output", str(tmp_path / "s"), "first 2"]
    with little_room(2000):
        code, _, err = in_process(*asked)
    assert code == 1, err
    assert err.endswith(f"--output {tmp_path}/s cannot be used (File too large)\n")


def test_an_index_is_searched_as_what_it_holds(in_process, line, index, embedded, small):
    """Exactly, and by a graph that is built once and made anew when the embeddings are others."""
    file = index("document", "--dtype", "int8")
    asked = [*line, "--index", file, "--query-branch", "text", "--json", "a red bar"]
    exact = found(in_process(*asked))
    assert exact["branch"] == "document"
    code, out, err = in_process(*asked, "--approximate")
    assert "recall@10" in err
    approximate = json.loads(out)
    assert approximate["method"] == "approximate"
    assert approximate["recall@10"] > 0.9
    keys = [[one["key"] for one in answer["results"]] for answer in (exact, approximate)]
    assert len(set(keys[0]) & set(keys[1])) >= 8
    code, out, err = in_process(*asked, "--approximate")
    assert (code, "built" in err, json.loads(out)) == (0, False, approximate)
    graph = f"{file}.usearch"
    with open(graph, "ab") as torn:
        torn.write(b"x")
    code, out, err = in_process(*asked, "--approximate")
    assert "built" in err
    assert json.loads(out) == approximate


def test_an_index_of_something_else_is_refused(in_process, line, index, small, tmp_path):
    file = index("document")
    asked = [*line, "--index", file, "--query-branch", "text"]
    refused(in_process(*asked, "--branch", "text", "x"), "is of the branch document")
    refused(in_process(*asked, "--step", "2", "x"), "is of another model (step 4", "embed again")
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    lines = (small / "pairs.jsonl").read_text().splitlines()
    other = tmp_path / "pairs.jsonl"
    asked[asked.index("--source") + 1] = f"jsonl:{other}"
    other.write_text("\n".join(lines[:30]))
    refused(in_process(*asked, "x"), "is of 40 records and", "has 30")
    other.write_text("\n".join(reversed(lines)))
    refused(in_process(*asked, "x"), "the source has changed; embed again")


def test_an_index_of_a_source_that_changed_is_refused(in_process, line, small, tmp_path):
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    own, output = tmp_path / "pairs.jsonl", str(tmp_path / "e.parquet")
    own.write_text((small / "pairs.jsonl").read_text())
    line[line.index("--source") + 1] = f"jsonl:{own}"
    code, _, err = in_process("embed", *line[1:], "--branch", "document", "--output", output)
    assert code == 0, err
    asked = [*line, "--index", output, "--query-branch", "text"]
    found(in_process(*asked, "--json", "x"))
    own.write_text(own.read_text().replace("bar", "rod"))  # keys and sizes are as before
    words = "pairs.jsonl has the same size and another content now than then"
    refused(in_process(*asked, "x"), words, "the source has changed; embed again")


def test_a_part_of_an_unfinished_file_is_no_index(in_process, line, tmp_path):
    file = tmp_path / "000000.parquet"
    part = Part(["k0"], np.zeros(1, np.int64), np.ones((1, 16), np.float32))
    write(file, [part], {"dtype": "float32", "dimensions": 16, "broken": []})
    refused(
        in_process(*line, "--index", str(file), "--query-branch", "text", "x"), "is a part of a file that"
    )


def test_lists_of_texts_are_shown_by_their_first(in_process, line, small, tmp_path):
    lines = [json.loads(one) for one in (small / "pairs.jsonl").read_text().splitlines()[:4]]
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    lists = [one | {"text": [f"first {n}", "second"]} for n, one in enumerate(lines)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lists)))
    line[line.index("--source") + 1] = f"jsonl:{tmp_path}/pairs.jsonl"
    asked = [*line, "--query-branch", "text", "--branch", "text", "--output", str(tmp_path / "s"), "first 2"]
    code, out, err = in_process(*asked)
    assert code == 0, err
    assert out.splitlines()[1].split() == ["1", "1.000", "k2", "first", "2"]
    assert (tmp_path / "s" / "search.png").stat().st_size > 1000


def test_a_reader_that_went_away_is_no_traceback(in_process, line, capfd):
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.close(writing)
    code = cli.main([*line, "--query-branch", "text", "x"])
    assert code == 1
    assert "contrastive-jax: whoever read the answer has gone" in capfd.readouterr().err


def test_a_result_that_cannot_be_read_any_more_is_named(in_process, line, index, small, tmp_path):
    file = index("document")
    lines = (small / "pairs.jsonl").read_text().splitlines()
    document = json.loads(lines[5])["document"]
    lines[5] = lines[5].replace("pictures/5.png", "gone.png")
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    line[line.index("--source") + 1] = f"jsonl:{tmp_path}/pairs.jsonl"
    asked = in_process(*line, "--index", file, "--query-branch", "document", "--json", document)
    first = found(asked)["results"][0]
    assert (first["key"], first["record"]) == ("k5", 5)
    assert "gone.png" in first["broken"]


def test_functions_that_are_found_are_named_so_that_one_can_go_there(in_process, tmp_path, monkeypatch):
    """The docstring model, untrained, on some of the packages that are installed here."""
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path / "cache"))
    some = [package for package in docstrings.packages() if package.name in ("textwrap", "json", "shutil")]
    monkeypatch.setattr(docstrings, "packages", lambda: some)
    run, output = (
        write_untrained(tmp_path / "run", f"{CONFIGS}/code.py:small"),
        str(tmp_path / "code.parquet"),
    )
    line = ["--workdir", str(run), "--source", "docstrings:all", "--batch", "64"]
    code, _, err = in_process("embed", *line, "--branch", "code", "--output", output)
    assert code == 0, err
    code, out, err = in_process("search", *line[:2], "--index", output, "find an executable on the path")
    assert code == 0, err
    rows, places = out.splitlines()[1:11], out.splitlines()[11:21]
    functions = {f["qualified_name"]: f for f in docstrings.Docstrings("all")}
    assert "shutil.which" in functions
    for rank, (row, place) in enumerate(zip(rows, places), 1):
        number, _, name, *words = row.split()
        assert number == str(rank)
        assert functions[name]["docstring"].startswith(" ".join(words).rstrip("…"))
        assert place.split() == [str(rank), f"{functions[name]['file']}:{functions[name]['line']}"]
    assert out.endswith("records of docstrings:all, branch code, step 4\n")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], "required: query"),
        ([" "], "query: it is empty"),
        (["a", "--indx", "f"], "'--indx': did you mean --index?"),
        (["a", "--qury-branch", "f"], "did you mean --query-branch?"),
        (["a", "--aproximate"], "did you mean --approximate?"),
        (["a", "--outptu", "f"], "did you mean --output?"),
        (["a", "--k", "0"], "--k: '0': give a whole number from 1"),
        (["a", "--query-branch", "txt"], "--query-branch txt: unknown; did you mean text?"),
        (["a", "--branch", "imge"], "--branch imge: unknown; did you mean image?"),
        (["a", "--query-branch", "image"], "--query-branch image: it reads no texts; document, text would"),
        (["a", "--approximate"], "--approximate: give --index"),
        (["a", "--index", "/nowhere.parquet"], "--index /nowhere.parquet: no such file"),
        (["a", "--index", "e.txt"], "give a file that ends in .parquet or .npy"),
        (["nowhere.png"], "query nowhere.png: no such file"),
        (["a", "--step", "7", "--query-branch", "text"], "no checkpoint of step 7"),
        (["a", "--source", "jsonl:/nowhere.jsonl", "--query-branch", "text"], "/nowhere.jsonl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_refused_in_one_line(in_process, line, changes, words):
    refused(in_process(*line, *changes), words)


def test_a_torn_picture_is_refused_and_a_text_may_begin_with_dashes(in_process, line, small, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes((small / "pictures" / "1.png").read_bytes()[:300])
    refused(in_process(*line, str(torn)), "torn.png: the picture cannot be decoded")
    assert cli.parse([*line, "--", "--red"]).query == "--red"
