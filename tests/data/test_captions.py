"""Which texts a tokenizer is learnt from."""

import itertools
import json
import logging

import numpy as np
import pytest

from contrastive_jax.data import captions as module
from contrastive_jax.data.captions import captions
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.tokenizers import BytePairs
from contrastive_jax.data.views.text import strings
from contrastive_jax.errors import InputError


class Numbered:
    """Records whose text is their number; it remembers which were read, and how many at once."""

    def __init__(self, count):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def column(self, name, rows=None):
        if name == "none":
            raise KeyError(name)
        self.read.append(list(rows))
        return [str(row) for row in rows]


@pytest.fixture
def lines(tmp_path):
    words = ["red", "green", "blue", "square", "circle", "large", "small"]
    rng = np.random.default_rng(0)
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(3000):
            record = {"text": [" ".join(rng.choice(words, 3)), f"{number} {rng.choice(words)}"]}
            file.write(json.dumps(record | ({"title": f"title {number}"} if number > 2500 else {})) + "\n")
    return open_source(f"jsonl:{tmp_path}/a.jsonl")


def saved(tokenizer, path):
    tokenizer.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("piece", [1 << 14, 300])
def test_up_to_the_limit_the_tokenizer_is_that_of_all_captions(lines, tmp_path, monkeypatch, piece):
    monkeypatch.setattr(module, "_PIECE", piece)
    fields, kind = ["text", "title"], BytePairs(vocabulary=300)
    all_texts = itertools.chain.from_iterable(strings(lines.column(field)) for field in fields)
    learnt = kind.train(captions(lines, fields, len(lines), 3))
    assert saved(learnt, tmp_path / "a") == saved(kind.train(all_texts), tmp_path / "b")


@pytest.mark.parametrize(("count", "most"), [(10_000, 1), (10_000, 999), (10_000, 9_999), (257, 256), (7, 7)])
def test_so_many_records_and_no_others_are_read(count, most):
    source = Numbered(count)
    texts = list(captions(source, ["none", "text"], most, 5))
    rows = [row for piece in source.read for row in piece]
    assert texts == list(map(str, rows))
    assert rows == sorted(set(rows))
    assert len(rows) == most
    assert 0 <= rows[0] <= rows[-1] < count
    assert list(captions(Numbered(count), ["text"], most, 5)) == texts
    if most < count - 1:
        assert list(captions(Numbered(count), ["text"], most, 6)) != texts


def test_they_are_from_everywhere_and_a_piece_at_a_time():
    source = Numbered(10_000_000)
    rows = np.array(list(map(int, captions(source, ["text"], 100_000, 0))))
    assert len(rows) == 100_000
    assert max(map(len, source.read)) <= 1 << 14
    shares = np.bincount(rows * 20 // len(source), minlength=20) / len(rows)
    assert np.abs(shares - 0.05).max() < 0.006


def test_every_record_is_drawn_alike():
    drawn = np.zeros(1000)
    for seed in range(300):
        drawn[[int(text) for text in captions(Numbered(1000), ["text"], 500, seed)]] += 1
    assert drawn.sum() == 300 * 500
    assert np.abs(drawn / 300 - 0.5).max() < 0.15  # five standard deviations


def test_what_is_done_is_said(lines, caplog):
    with caplog.at_level(logging.INFO):
        list(captions(lines, ["text"], 3000, 0))
        assert not caplog.messages
        list(captions(lines, ["text"], 1000, 0))
    assert caplog.messages == ["the tokenizer is learnt from the texts of 1,000 of 3,000 records"]


def test_progress_is_said(lines, caplog, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 1024)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO):
        list(captions(lines, ["text"], 3000, 0))
    assert "for the tokenizer: read the texts of 2,048 of 3,000 records" in caplog.messages
    assert "now its merges" in caplog.messages[-1]


def test_a_limit_is_a_number_of_records():
    with pytest.raises(InputError, match=r"tokenizer.captions=0 must be a number of records, 1 or more"):
        BytePairs(captions=0)
