"""Repetition, deletion, masking and EDA of texts; all but one string of a list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.tokenizers import BytePairs, Tokenizer
from contrastive_jax.data.views import Text, tokens
from contrastive_jax.errors import InputError

TEXT = "alpha beta gamma delta epsilon zeta eta theta iota kappa"
TOKENIZER = BytePairs(vocabulary=120, mask=True).train([TEXT])
MASK = TOKENIZER.find("[MASK]")


def rng(seed=0):
    return np.random.default_rng(seed)


def seen(seeds=1, record=None, train=True, tokenizer=TOKENIZER, **settings):
    view = Text(**{"length": 40, **settings}).bind(tokenizer)
    return [view(record or {"text": TEXT}, rng(seed), train) for seed in range(seeds)]


def own(ids):
    """Without what begins, ends and fills up."""
    assert ids[0] == 2
    end = int(np.flatnonzero(ids == 3)[0])
    assert (ids[end + 1 :] == 0).all()
    return ids[1:end]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.floats(0, 1), st.integers(0, 999))
def test_repetition_keeps_order_and_set_and_grows_up_to_its_cap(count, rate, seed):
    before = np.arange(count, dtype=np.int32)
    after = tokens.repeated(before, rate, rng(seed))
    assert np.array_equal(np.unique(after), before)
    assert (np.diff(after) >= 0).all()
    assert max(np.bincount(after)) <= 2
    assert len(after) - count <= min(max(2, int(rate * count)), count)


def test_repetitions_are_as_many_as_the_paper_draws_and_anywhere():
    """Evenly 0 to max(2, rate x n): of ten tokens at 0.32, 0 to 3; of four, 0 to 2."""
    for count, most in ((10, 3), (4, 2)):
        drawn = [tokens.repeated(np.arange(count), 0.32, rng(seed)) for seed in range(2000)]
        grown = np.bincount([len(each) - count for each in drawn], minlength=most + 1) / 2000
        assert np.allclose(grown, 1 / (most + 1), atol=0.04)
        where = np.bincount(np.concatenate(drawn), minlength=count) / 2000 - 1
        assert np.allclose(where, most / 2 / count, atol=0.04)


def test_a_view_repeats_tokens_between_begin_and_end_and_cuts():
    (plain,) = seen(train=False)
    whole = own(plain)
    lengths = set()
    for ids in seen(100, repetition=0.5):
        lengths.add(len(own(ids)))
        assert set(own(ids)) == set(whole)
    assert len(lengths) > 2
    assert max(lengths) <= len(whole) * 1.5
    (short,) = seen(train=False, length=8)
    for ids in seen(50, length=8, repetition=1.0):
        assert len(own(ids)) == 6
        assert set(own(ids)) <= set(own(short))
    assert np.array_equal(seen(repetition=0.0)[0], plain)
    assert np.array_equal(seen(train=False, repetition=1.0)[0], plain)


def test_deletion_leaves_tokens_out_at_its_rate_and_never_all():
    whole, left = own(seen(train=False)[0]), []
    for ids in seen(400, deletion=0.3):
        rest, at = own(ids).tolist(), 0
        for token in rest:  # a run of what is there, in order
            at = whole.tolist().index(token, at) + 1
        left.append(len(rest))
    assert abs(np.mean(left) / len(whole) - 0.7) < 0.02
    assert {len(own(ids)) for ids in seen(60, {"text": "alpha beta"}, deletion=0.8)} == {1, 2}


@pytest.mark.parametrize("shares", [(1.0, 0.0, 0.0), (0.8, 0.1, 0.1), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_masking_chooses_at_its_rate_and_what_becomes_of_it(shares):
    before = np.tile(np.arange(10, 30, dtype=np.int32), 500)
    ordinary = np.arange(1000, 3000)
    after = tokens.masked(before, 0.15, shares, 0, 4, ordinary, rng())
    assert after.dtype == before.dtype
    rates = np.mean(after == 4), np.mean(after >= 1000)
    assert np.allclose(rates, np.array(shares[:2]) * 0.15, atol=0.012)
    assert ((after == before) | (after == 4) | (after >= 1000)).all()
    drawn = after[after >= 1000]
    assert len(drawn) < 100 or abs(drawn.mean() - 2000) < 100


def test_masking_spares_the_beginning_and_special_tokens():
    plain = own(seen(train=False)[0])
    for ids in seen(30, masking=1.0, spared=3):
        assert np.array_equal(own(ids)[:3], plain[:3])
        assert (own(ids)[3:] == MASK).all()
    replaced = np.concatenate([own(ids) for ids in seen(200, masking=1.0, masked_as=(0.0, 1.0, 0.0))])
    assert not set(replaced.tolist()) & {0, 1, 2, 3, MASK}
    assert set(replaced.tolist()) == set(TOKENIZER.ordinary.tolist())
    assert np.array_equal(own(seen(train=False, masking=1.0)[0]), plain)


def test_which_token_masks(tmp_path):
    assert MASK == 4
    plain = BytePairs(vocabulary=60).train([TEXT])
    assert plain.find("[MASK]") is None
    with pytest.raises(InputError, match=r"masking needs a mask.*config\.data\.tokenizer\.mask=True"):
        Text(masking=0.1).bind(plain)
    with pytest.raises(InputError, match=r"mask='<gone>' is no token"):
        Text(masking=0.1, mask="<gone>").bind(plain)
    Text(masking=0.1, masked_as=(0.0, 1.0, 0.0)).bind(plain)
    assert (own(seen(tokenizer=plain, masking=1.0, mask="[UNK]")[0]) == 1).all()
    TOKENIZER.save(tmp_path / "t.json")
    again = Tokenizer.load(tmp_path / "t.json")
    assert again.find("[MASK]") == MASK
    assert np.array_equal(again.ordinary, TOKENIZER.ordinary)
    assert np.array_equal(again.encode(TEXT, 30), TOKENIZER.encode(TEXT, 30))


class Words:
    def encode(self, text, length, keep=True):
        return text


def words_seen(text, seeds, **settings):
    return (
        [seen(record={"text": text}, tokenizer=Words(), **settings)[0]]
        if seeds == 1
        else [Text(**settings).bind(Words())({"text": text}, rng(seed), True) for seed in range(seeds)]
    )


def test_stop_words_go_with_a_probability_but_never_all():
    drawn = words_seen("The cat is on a mat.", 400, stop_words=0.8)
    assert set(drawn) == {"The cat is on a mat.", "cat mat."}
    assert 0.74 < drawn.count("cat mat.") / 400 < 0.86
    assert set(words_seen("of the", 20, stop_words=1.0)) == {"of the"}


def test_eda_does_one_of_three_things():
    text = "a b c d e f g h i j"
    drawn = words_seen(text, 900, eda=(1.0, 1.0, 1.0))
    same = sum(each == text for each in drawn)
    swaps = [each for each in drawn if each != text and sorted(each.split()) == sorted(text.split())]
    thinned = [each for each in drawn if len(each.split()) < 10]
    assert same + len(swaps) + len(thinned) == 900
    assert 260 < len(swaps) < 340
    assert 150 < len(thinned) < 250  # a third, but for the 0.9^10 of which nothing is left out
    for each in swaps:
        assert sum(a != b for a, b in zip(each.split(), text.split())) == 2
    assert set(words_seen("one", 20, eda=(0.0, 1.0, 0.0))) == {"one"}


def test_all_strings_but_the_one_that_another_view_shows():
    """The inverse cloze task: with nothing kept, the query never occurs in its document."""
    record = {"text": ["He came.", "He came. Twice.", "She went.", "They stayed.", "All left."]}
    query = Text(together="cloze").bind(Words())
    for stays, rate in ((0.0, 0.0), (0.3, 0.3)):
        document = Text(together="cloze", rest=True, stays=stays).bind(Words())
        kept = 0
        for seed in range(1000):
            asked, rest = (view(record, rng(seed), True) for view in (query, document))
            kept += asked in rest
        assert abs(kept / 1000 - rate) < 0.05
        assert kept == 0 or stays
    whole = Text(rest=True).bind(Words())(record, rng(), False)
    assert whole == " ".join(record["text"])


def test_a_title_before_the_rest():
    view = Text(field="title", also=("sentences",), rest=True).bind(Words())
    record = {"title": "T", "sentences": ["a.", "b."]}
    assert {view(record, rng(seed), True) for seed in range(20)} == {"T a.", "T b."}
    with pytest.raises(BrokenRecord, match="is empty"):
        Text(field="sentences", rest=True).bind(Words())({"sentences": ["a."]}, rng(), True)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (dict(deletion=1.0), "deletion=1.0 must be in [0, 1)"),
        (dict(repetition=-0.1), "repetition=-0.1"),
        (dict(masking=1.1), "masking=1.1"),
        (dict(masked_as=(1.0, 0.0)), "masked_as=(1.0, 0.0) must be three weights"),
        (dict(masked_as=(0.0, 0.0, 0.0)), "masked_as=(0.0, 0.0, 0.0)"),
        (dict(spared=-1), "spared=-1"),
        (dict(eda=(1.0, -1.0, 1.0)), "eda=(1.0, -1.0, 1.0)"),
        (dict(stop_words=2.0), "stop_words=2.0"),
        (dict(join=True, rest=True), "rest=True must be False with join=True"),
        (dict(stays=1.5), "stays=1.5"),
    ],
)
def test_bad_keys(keys, words):
    with pytest.raises(InputError) as error:
        Text(**keys)
    assert words in str(error.value)
