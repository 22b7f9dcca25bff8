"""Names and texts of data that are markup, control characters or no characters at all: shown as they read."""

import json
import logging
import shutil

import numpy as np
import pytest

from contrastive_jax import cli
from contrastive_jax.commands.output import answer
from contrastive_jax.evaluation.embeddings import Embeddings
from contrastive_jax.interop.card import _metrics
from contrastive_jax.training.report import curves
from contrastive_jax.training.workdir import write_json
from contrastive_jax.training.writers import MetricsFile, TensorBoard
from contrastive_jax.written import encodable, printable

WORDS = (
    "[/b]",
    "[red]x",
    ":smile:",
    "\x1b[31mred",
    "two\nlines",
    "half \ud83d",
    "$\\frac{",
    "a|b",
    "\u202ebc",
)


@pytest.fixture
def source(small, tmp_path):
    """Records whose keys, texts and field names are such words."""
    shutil.copytree(small / "pictures", tmp_path / "pictures")
    lines = [
        {"key": word, "text": f"{encodable(word)} a red bar", "image": f"pictures/{n}.png", word: word}
        for n, word in enumerate(WORDS)
    ]
    (tmp_path / "words.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return f"jsonl:{tmp_path}/words.jsonl"


def shown(word):
    """As a table shows it, which has its cells in one line."""
    return printable(" ".join(word.split()))


def test_what_is_printable():
    assert printable("a\x1b[0m\tb\ud83d\u202e\u2028 é😀") == r"a\x1b[0m\tb\ud83d\u202e\u2028 é😀"
    assert encodable("a\x1b\ud83d") == "a\x1b\\ud83d"


def test_inspect_shows_them(in_process, source, tmp_path):
    code, out, err = in_process("data", "inspect", "--source", source, "--output", str(tmp_path / "out"))
    assert code == 0, err
    for word in WORDS:
        assert printable(word) in out
    assert "\x1b" not in out
    stored = json.loads((tmp_path / "out" / "inspection.json").read_text())
    code, out, err = in_process("data", "inspect", "--source", source, "--json")
    assert code == 0, err
    assert json.loads(out) == {name: value for name, value in stored.items() if name != "contact_sheet"}
    assert set(WORDS) <= stored["fields"].keys()


@pytest.mark.parametrize("ending", ["parquet", "npy"])
def test_embed_names_them_and_search_finds_and_shows_them(in_process, small, source, tmp_path, ending):
    line = ["--workdir", f"{small}/run", "--source", source, "--batch", "8"]
    output = str(tmp_path / f"e.{ending}")
    code, out, err = in_process("embed", *line, "--branch", "text", "--output", output)
    assert code == 0, err
    assert list(Embeddings(output).keys) == list(map(encodable, WORDS))
    asked = ["search", *line, "--index", output, "--query-branch", "text", "red bar"]
    code, out, err = in_process(*asked, "--output", str(tmp_path / "sheet"))
    assert code == 0, err
    for word in WORDS:
        assert shown(word) in out
    assert "\x1b" not in out
    code, out, err = in_process(*asked, "--json")
    assert {one["key"] for one in json.loads(out)["results"]} == set(map(encodable, WORDS))


def test_errors_and_warnings_name_them_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(cli, "parse", lambda arguments: cli._tell(f"no such key: {''.join(WORDS)}") or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main([])
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "left out: %s", ("\x1b[2J\ud83d[/b]",), None)
    print(cli._handler().format(record))
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert out == "left out: \\x1b[2J\\ud83d[/b]\n"
    assert "\x1b" not in err


def test_figures_are_called_so_in_tables_and_files(tmp_path):
    values = {f"zero_shot/{word}": 0.5 for word in WORDS}
    with open(tmp_path / "table", "w", encoding="utf-8") as stream:
        answer(stream, values, as_json=False)
    lines = (tmp_path / "table").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["0.5000"] * len(WORDS)
    assert [line.strip()[:-6].strip() for line in lines] == [printable(name) for name in values]
    write_json(tmp_path / "result.json", values)
    assert json.loads((tmp_path / "result.json").read_text()) == values
    MetricsFile(tmp_path / "metrics.jsonl").append(1, values)
    assert MetricsFile(tmp_path / "metrics.jsonl").lines() == [{"step": 1, **values}]
    board = TensorBoard(tmp_path / "tensorboard")
    board.write(1, values)
    board.close()
    encodable(_metrics(values)).encode()
    assert all(row.count("|") - row.count("\\|") == 3 for row in _metrics(values).splitlines()[4:])


@pytest.mark.parametrize("steps", [1, 2])
def test_curves_are_drawn_of_them(tmp_path, steps):
    lines = [
        {"step": n + 1, "loss": 1.0, **{f"{word}/accuracy": 0.5 for word in WORDS}} for n in range(steps)
    ]
    curves(lines).savefig(tmp_path / "curves.png", dpi=40)
    assert np.fromfile(tmp_path / "curves.png", np.uint8).size > 1000
