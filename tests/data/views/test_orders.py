"""Texts that say something else with the same words."""

import collections
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views import Text
from contrastive_jax.data.views.orders import ORDERS, reordered, swapped
from contrastive_jax.errors import InputError

COLOURS, SHAPES = frozenset({"black", "blue", "yellow", "grey"}), frozenset({"circle", "square", "triangle"})
KINDS = (COLOURS, SHAPES)
DATA = Path(os.environ.get("CONTRASTIVE_JAX_DATA", "../shared/data")) / "nlvr_compositional/dev-0000.tar"


def rng(seed=0):
    return np.random.default_rng(seed)


def texts_of(function, text, *arguments, seeds=200):
    return collections.Counter(
        " ".join(function(text.split(), *arguments, rng(seed))) for seed in range(seeds)
    )


def test_two_words_of_one_kind_change_places_and_marks_stay():
    found = texts_of(swapped, "Black circle, blue square; a tower.", KINDS)
    expected = {"Blue circle, black square; a tower.", "Black square, blue circle; a tower."}
    assert set(found) == expected
    assert min(found.values()) > 70  # the kinds are drawn evenly
    # Equal words are no pair: of three colours, two of them blue, only those with black change.
    assert set(texts_of(swapped, "blue blue black", KINDS)) == {"black blue blue", "blue black blue"}


def test_a_word_without_a_partner_is_replaced_by_another_of_its_kind():
    found = texts_of(swapped, "A (Blue) tower", KINDS, seeds=300)
    assert set(found) == {f"A ({colour}) tower" for colour in ("Black", "Yellow", "Grey")}
    assert min(found.values()) > 60
    assert set(texts_of(swapped, "two dogs", KINDS)) == {"dogs two"}


SOME = ["a", "b", "c", "blue", "black", "circle", "square", "The,", "end."]
WORDS = st.lists(st.sampled_from(SOME), min_size=2, max_size=9)


@settings(max_examples=150, deadline=None)
@given(WORDS, st.sampled_from((*ORDERS, "swap")), st.integers(0, 99))
def test_the_text_is_always_another_one(words, order, seed):
    if len(set(words)) == 1:
        with pytest.raises(BrokenRecord, match="no other order"):
            reordered(words, order, rng(seed), KINDS)
        return
    before = list(words)
    if order == "swap":
        changed = swapped(words, KINDS, rng(seed))
        assert sum(a != b for a, b in zip(words, changed)) in (1, 2) or sorted(changed) == sorted(words)
    else:
        changed = reordered(words, order, rng(seed), KINDS)
        assert sorted(changed) == sorted(words)
    assert changed != words == before


def test_orders_keep_what_they_say():
    words = [f"w{number}" for number in range(9)]
    for seed in range(50):
        trigrams = reordered(words, "trigrams", rng(seed))
        starts = [words.index(word) for word in trigrams[::3]]
        assert sorted(starts) == [0, 3, 6]
        assert trigrams == [words[start + k] for start in starts for k in range(3)]
        within = reordered(words, "within_trigrams", rng(seed))
        assert [sorted(within[k : k + 3]) for k in (0, 3, 6)] == [words[k : k + 3] for k in (0, 3, 6)]
        text = ["a", "black", "circle", "and", "a", "blue", "square"]
        listed = reordered(text, "listed", rng(seed), KINDS)
        assert [listed[k] for k in (0, 3, 4)] == ["a", "and", "a"]
        unlisted = reordered(text, "unlisted", rng(seed), KINDS)
        assert [unlisted[k] for k in (1, 2, 5, 6)] == ["black", "circle", "blue", "square"]


def test_other_orders_come_evenly():
    found = texts_of(reordered, "a b c", "words", seeds=1000)
    assert len(found) == 5
    assert 140 < min(found.values()) <= max(found.values()) < 260  # 200 expected, 12.6 standard deviation


class Words:
    def encode(self, text, length, keep=True):
        return text


def test_a_view_is_the_same_at_every_evaluation_and_draws_at_training():
    view = Text(swap=("Black blue yellow", "circle square")).bind(Words())
    record = {"text": "black circle, blue square, yellow circle"}
    settled = {view(record, rng(seed), False) for seed in range(20)}
    assert len(settled) == 1
    assert settled != {record["text"]}
    assert len({view(record, rng(seed), True) for seed in range(100)}) > 4
    prompted = Text(order="words", prompts=("say {} now",)).bind(Words())
    assert prompted({"text": "a b"}, rng(), False) == "say b a now"
    with pytest.raises(BrokenRecord, match="no other order"):
        prompted({"text": "one"}, rng(), True)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (dict(swap=("red",)), "swap='red' must be words of one kind, two at least"),
        (dict(swap=("red Red",)), "swap='red Red'"),
        (dict(order="verbs"), "order='verbs' must be one of words, trigrams"),
        (dict(order="listed"), "swap=() must be given with order='listed'"),
        (dict(order="words", swap=("red blue",)), "swap=('red blue',) must be () with this order"),
    ],
)
def test_bad_keys(keys, words):
    with pytest.raises(InputError) as error:
        Text(**keys)
    assert words in str(error.value)


@pytest.mark.skipif(not DATA.exists(), reason=f"no {DATA}")
def test_real_captions():
    """Of NLVR's sentences almost all have a word of these kinds, and a third two of one kind."""
    with tarfile.open(DATA) as tar:
        found = {
            json.load(tar.extractfile(member))["sentence"] for member in tar if member.name.endswith("json")
        }
    numbers, places = "one two three four 1 2 3 4", "top bottom base left right"
    kinds = [*KINDS, frozenset(numbers.split()), frozenset(places.split())]
    changed = {text: " ".join(swapped(text.split(), kinds, rng(0))) for text in found}
    assert all(text.split() != other.split() for text, other in changed.items())
    few = [sum(a != b for a, b in zip(text.split(), other.split())) <= 2 for text, other in changed.items()]
    assert np.mean(few) > 0.9
