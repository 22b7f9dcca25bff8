import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data import tokenizers
from contrastive_jax.data.glyphs import Glyphs
from contrastive_jax.data.tokenizers import KINDS, BytePairs, Tokenizer
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError


@pytest.fixture(scope="module")
def names():
    return Glyphs("train").column("text")


@pytest.fixture(scope="module")
def tokenizer(names):
    return BytePairs(vocabulary=1024).train(names)


def test_training_is_deterministic(names, tokenizer, tmp_path):
    tokenizer.save(tmp_path / "one.json")
    BytePairs(vocabulary=1024).train(reversed(names)).save(tmp_path / "other.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()
    assert len(tokenizer) == 1024


def test_tokens(tokenizer):
    encoded = tokenizer.encode("LATIN SMALL LETTER A WITH DOTS-35", 16)
    assert encoded.dtype == np.int32
    letters = [tokenizer._vocabulary._tokenizer.id_to_token(number) for number in encoded]
    assert letters[:10] == ["[BOS]", "latin", "small", "letter", "a", "with", "dots", "-", "3", "5"]
    assert letters[10:] == ["[EOS]"] + ["[PAD]"] * 5


def test_long_texts_are_cut_before_the_end_token(tokenizer):
    assert tokenizer.encode("LATIN SMALL LETTER A WITH BREVE", 5).tolist()[-1] == 3
    whole = tokenizer.encode("LATIN SMALL LETTER A WITH BREVE", 16)
    assert tokenizer.encode("LATIN SMALL LETTER A WITH BREVE", 5)[:4].tolist() == whole[:4].tolist()


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.integers(3, 20))
def test_any_text_is_begin_tokens_end_padding(tokenizer, text, length):
    encoded = tokenizer.encode(text, length).tolist()
    end = encoded.index(3)
    assert len(encoded) == length
    assert encoded[0] == 2
    assert 0 not in encoded[:end]
    assert set(encoded[end + 1 :]) <= {0}
    assert max(encoded) < len(tokenizer)


def test_case_matters_only_on_demand(tokenizer):
    assert np.array_equal(tokenizer.encode("Latin small", 8), tokenizer.encode("LATIN SMALL", 8))
    exact = BytePairs(vocabulary=60, lowercase=False).train(["aA bB"] * 3)
    assert not np.array_equal(exact.encode("aa", 8), exact.encode("aA", 8))


def test_saved_and_loaded_and_pickled(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    for again in (Tokenizer.load(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(tokenizer))):
        assert len(again) == len(tokenizer)
        for text in ("GREEK SMALL LETTER ALPHA", "BRAILLE PATTERN DOTS-1245", "zż"):
            assert np.array_equal(again.encode(text, 12), tokenizer.encode(text, 12))


@pytest.mark.parametrize("content", ["", "{}", "half", "not utf-8"])
def test_a_damaged_file_is_one_clear_line(tokenizer, tmp_path, content):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    if content == "half":
        path.write_bytes(path.read_bytes()[:3000])
    elif content == "not utf-8":
        path.write_bytes(b"\xff\xfe" + path.read_bytes())
    else:
        path.write_text(content)
    with pytest.raises(InputError) as error:
        Tokenizer.load(path)
    assert "tokenizer.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_bad_size(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Tokenizer.load(tmp_path / "none.json")
    with pytest.raises(InputError, match="vocabulary=4"):
        KINDS["bpe"](vocabulary=4)


def test_identifiers_are_their_words():
    texts = ["readHTTPBody_now = parseXML2Tree(self.__init__)", "read http body now parse xml tree init self"]
    plain, words = (BytePairs(vocabulary=300, identifiers=i).train(texts * 9) for i in (False, True))
    assert words.encode("readHTTPBody_now", 9).tolist() == words.encode("read http body now", 9).tolist()
    assert plain.encode("readHTTPBody_now", 30).tolist() != plain.encode("read http body now", 30).tolist()


def test_tokens_are_kept_up_to_so_many_bytes_and_not_of_texts_that_are_drawn_anew(tokenizer, monkeypatch):
    """Long documents are few in a bound of bytes; crops of them never come again."""
    own = Tokenizer(tokenizer._vocabulary, tokenizer._specials)
    monkeypatch.setattr(tokenizers, "KEPT_BYTES", 100_000)
    documents = [f"LATIN SMALL LETTER {n} " * 300 for n in range(60)]
    wanted = [tokenizer.encode(text, 64) for text in documents]
    for _ in range(2):
        for text, tokens in zip(documents, wanted):
            assert np.array_equal(own.encode(text, 64), tokens)
    assert 10 < len(own._own) < 20
    held = sum(sys.getsizeof(text) + tokens.nbytes for (text, _), tokens in own._own.items())
    assert held <= own._kept <= 100_000
    own.encode("not kept", 64, keep=False)
    assert ("not kept", 64) not in own._own
    view, rng = Text(length=16, span=(0.2, 0.9)).bind(own), np.random.default_rng(0)
    before = len(own._own)
    for _ in range(30):
        view({"text": "LATIN SMALL LETTER A WITH DOTS ABOVE AND BELOW"}, rng, True)
    assert len(own._own) == before
    view({"text": "LATIN SMALL LETTER A"}, rng, False)  # at evaluation it is whole
    assert ("LATIN SMALL LETTER A", 16) in own._own
