"""Texts: chosen, joined, cut out, thinned and put into prompts."""

import json

import numpy as np
import pytest

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views import Text
from contrastive_jax.data.views.text import strings

WORDS = [f"w{number}" for number in range(20)]


class Words:
    """A tokenizer that keeps what it is given."""

    def encode(self, text, length, keep=True):
        return text


def rng(seed=0):
    return np.random.default_rng(seed)


def seen(record, train=True, seeds=1, **settings):
    view = Text(**settings).bind(Words())
    texts = [view(record, rng(seed), train) for seed in range(seeds)]
    return texts if seeds > 1 else texts[0]


def test_a_tokenizer_is_needed():
    with pytest.raises(ValueError, match="bind"):
        Text()({"text": "a"}, rng(), True)
    assert Text(length=5).bind(None) == Text(length=5)


def test_one_of_a_list_is_drawn_at_training_and_the_first_at_evaluation():
    record = {"text": ["a", "b", "c"]}
    drawn = seen(record, seeds=300)
    assert {drawn.count(text) > 70 for text in "abc"} == {True}
    assert set(seen(record, train=False, seeds=20)) == {"a"}
    assert seen(record, join=True) == "a b c"


def test_prompts_are_drawn_at_training_and_the_first_at_evaluation():
    prompts = ("a photo of a {}", "{} and {}")
    assert set(seen({"text": "{} dog"}, seeds=50, prompts=prompts)) == {
        "a photo of a {} dog",
        "{} dog and {} dog",
    }
    assert set(seen({"text": "dog"}, train=False, seeds=20, prompts=prompts)) == {"a photo of a dog"}


def test_fields_are_put_behind_each_other():
    settings = dict(field="title", also=("text", "tags"))
    record = {"title": "Wings", "text": "in a slipstream", "tags": ["air"]}
    assert seen(record, **settings) == "Wings in a slipstream air"
    assert seen({"title": "", "text": "in"}, **settings) == "in"
    assert seen({"title": "Wings", "text": None}, **settings) == "Wings"
    assert Text(**settings).fields == ("title", "text", "tags")


def test_spans_are_runs_of_words_of_the_length_asked_for():
    text, starts, lengths = " ".join(WORDS), [], []
    for span in seen({"text": text}, seeds=400, span=(0.1, 0.5)):
        words = span.split()
        assert span in text
        starts.append(WORDS.index(words[0]))
        lengths.append(len(words))
    assert (min(lengths), max(lengths)) == (2, 10)
    assert len(set(starts)) > 15
    assert all(start + length <= 20 for start, length in zip(starts, lengths))
    assert set(seen({"text": "one"}, seeds=9, span=(0.1, 0.5))) == {"one"}
    assert seen({"text": text}, train=False, span=(0.1, 0.5)) == text


def test_word_dropout_leaves_words_out_at_training_only():
    text = " ".join(WORDS)
    assert seen({"text": text}, train=False, word_dropout=0.5) == text
    left = [thinned.split() for thinned in seen({"text": text}, seeds=200, word_dropout=0.5)]
    assert all(words == [word for word in WORDS if word in words] for words in left)  # in order, each once
    assert 0.45 < np.mean([len(words) for words in left]) / 20 < 0.55
    assert set(seen({"text": "a b"}, seeds=100, word_dropout=0.9)) == {"a", "b", "a b"}


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_broken_at_training_and_empty_at_evaluation(text):
    with pytest.raises(BrokenRecord, match=r"its text is empty \(text\)"):
        seen({"text": text})
    assert seen({"text": text}, train=False) == text


@pytest.mark.parametrize("value", [None, 3, [], ["a", None], b"bytes", float("nan")])
@pytest.mark.parametrize("train", [True, False])
def test_what_is_no_text(value, train):
    with pytest.raises(BrokenRecord, match="'text' is no text"):
        seen({"text": value}, train=train)


def test_strings_of_a_column():
    assert list(strings(["a", None, ["b", ["c"]], 3, ""])) == ["a", "b", "c", ""]


@pytest.mark.parametrize("train", [True, False])
def test_half_a_character_is_a_broken_record(train):
    """JSON of a text that was cut in the middle of an emoji."""
    text = json.loads('"wings \\ud83d"')
    with pytest.raises(BrokenRecord, match="'text' holds half a character"):
        seen({"text": text}, train=train)
    assert list(strings(["a", text, [text, "b"]])) == ["a", "b"]


def test_where_nothing_is_drawn_the_other_fields_are_not_read():
    view = Text(field="en", also=("note",), either=("de", "fr"))
    assert view.fields == ("en", "note", "de", "fr")
    assert view.shown == ("en", "note")
