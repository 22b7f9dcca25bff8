import re
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.sentences import _ABBREVIATIONS, sentences

# The rule as it reads, with an expression that takes the square of the time.
_CLOSING, _OPENING = r"[\"'”’»)\]]*", r"[\"'“‘«(\[¿¡]*"  # noqa: RUF001
_END = re.compile(rf"[.!?…]+{_CLOSING}\s+(?={_OPENING}(\S))|[。！？]{_CLOSING}\s*(?=\S)")  # noqa: RUF001
_LAST_WORD = re.compile(rf"{_OPENING}(\S+)\.$")


def plainly(text):
    found = []

    def add(sentence):
        if any(letter.isalnum() for letter in sentence):
            found.append(sentence)
        elif sentence and found:
            found[-1] += f" {sentence}"

    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            word = _LAST_WORD.search(line[start : end.end()].rstrip())
            initial = word and len(word[1]) == 1 and word[1].isupper()
            shortened = initial or (word and word[1].casefold() in _ABBREVIATIONS)
            if end[1] and (end[1].islower() or shortened):
                continue
            add(line[start : end.end()].strip())
            start = end.end()
        add(line[start:].strip())
    return found


PIECES = [
    *".!?…。！\"'”’»)]“‘«([¿ \t\u3000\x1f\n",  # noqa: RUF001
    *("..", "  ", "a", "B", "É", "ß", "7", "No", "e.g", "Mr", "i.e", "ca"),
]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_the_same_as_the_plain_expression(text):
    assert sentences(text) == plainly(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_the_same_for_any_text(text):
    assert sentences(text) == plainly(text)


LONG = {
    "stops": ("." * 400_000, []),
    "stops and a blank": ("." * 400_000 + " a", ["." * 400_000 + " a"]),
    "abbreviations": ("No. " * 100_000, [("No. " * 100_000).strip()]),
    "no letter": ("a. " + "... " * 100_000, [("a. " + "... " * 100_000).strip()]),
    "quotes": ('."' * 200_000, []),
    "one word": ("a" * 400_000 + '." B', ["a" * 400_000 + '."', "B"]),
}


@pytest.mark.parametrize("name", LONG)
def test_long_texts_come_to_an_end(name):
    text, expected = LONG[name]
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it takes the square of the time"))
    signal.alarm(60)  # a second or less, and many minutes if it were the square
    try:
        assert sentences(text) == expected
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
