"""Matching texts with entries, and keeping no subject more often than a cap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.curation import Entries, balance, counts, entropy, keep_probability, match

TRIALS = 2000


def test_entries_are_runs_of_whole_words():
    metadata = ["dog", "hot dog", "Paris", "St. Louis", "dog", "", "well-known", "C++", "dog's"]
    texts = [
        "A hot dog, please",
        "hotdog",
        "St. Louis (Paris)!",
        "Parisian paris",
        "",
        "C++",
        "a dog's\ttail",
    ]
    assert match(texts, metadata) == [[0, 1], [], [2, 3], [], [], [7], [8]]
    assert match(["hot\n  dog; well-known"], metadata) == [[0, 1, 6]]
    assert match(["किताब और क"], ["क", "किताब"]) == [[0, 1]]
    assert match(["किताब"], ["क"]) == [[]]


WORDS = st.lists(st.sampled_from(["a", "b", "c", "ab", ",", "."]), max_size=8).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=4), st.lists(WORDS, min_size=1, max_size=6, unique=True))
def test_it_is_the_search_for_an_entry_between_blanks(texts, metadata):
    padded = [f" {text} " for text in texts]
    expected = [[n for n, entry in enumerate(metadata) if entry and f" {entry} " in t] for t in padded]
    assert match(texts, metadata) == expected


def test_counts_and_probabilities():
    matches = [[0, 1], [1], [], [1, 2], [1]]
    found = counts(matches, 4)
    assert found.tolist() == [1, 4, 1, 0]
    assert np.allclose(keep_probability(matches, found, 1), [1, 1 / 4, 0, 1, 1 / 4])
    assert np.allclose(keep_probability(matches, found * 2, 1), [1 - 1 / 2 * 7 / 8, 1 / 8, 0, 9 / 16, 1 / 8])
    assert keep_probability([], found, 1).shape == (0,)


def test_the_rate_of_many_keys_is_the_probability():
    rng = np.random.default_rng(0)
    popularity = np.array([0.9, 0.6, 0.3, 0.1, 0.02])
    matches = [np.flatnonzero(rng.random(5) < popularity).tolist() for _ in range(60)]
    found = counts(matches, 5)
    for cap in (3, 10):
        expected = keep_probability(matches, found, cap)
        kept = np.array([balance(matches, found, cap, key) for key in range(TRIALS)])
        deviation = np.sqrt(expected * (1 - expected) / TRIALS)
        assert (np.abs(kept.mean(0) - expected) <= 4.5 * deviation + 1e-9).all()
        # Draws of texts are independent: so the number that is kept has the variance of the sum.
        variance = (expected * (1 - expected)).sum()
        assert abs(kept.sum(1).var() / variance - 1) < 0.15


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), unique=True), max_size=30), st.integers(1, 8), st.integers(0, 99))
def test_tails_stay_and_texts_without_an_entry_go(matches, cap, key):
    found = counts(matches, 6)
    kept = balance(matches, found, cap, key)
    for text, stays in zip(matches, kept):
        assert stays or all(found[entry] > cap for entry in text)
        assert not stays or text
    assert np.array_equal(kept, balance(matches, found, cap, key))
    assert balance(matches, found, np.inf, key).tolist() == [bool(text) for text in matches]
    assert keep_probability(matches, found, np.inf).tolist() == [float(bool(text)) for text in matches]
    more = balance([*matches, [0]], found, cap, key)  # what comes behind changes nothing
    assert np.array_equal(more[:-1], kept)


def test_entropy_rises_as_the_cap_falls():
    rng = np.random.default_rng(1)
    popularity = 1 / np.arange(1, 31) ** 1.5
    matches = [rng.choice(30, 1, p=popularity / popularity.sum()).tolist() for _ in range(4000)]
    found = counts(matches, 30)
    entropies = []
    for cap in (np.inf, 300, 100, 30):
        kept = balance(matches, found, cap, 0)
        entropies.append(entropy(counts([m for m, stays in zip(matches, kept) if stays], 30)))
    assert entropies[0] == pytest.approx(entropy(found))
    assert entropies == sorted(entropies)
    assert entropies[-1] < np.log(30)
    assert entropy(np.zeros(3, int)) == 0
    assert entropy(np.array([5, 5, 0])) == pytest.approx(np.log(2))


def test_the_time_does_not_depend_on_the_number_of_entries():
    entries = Entries(f"word{number} and more" for number in range(100_000))
    assert entries("here is word77 and more, word78 or more") == [77]
