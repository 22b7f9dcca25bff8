"""A text's sentences, by a simple rule that needs no model."""

from __future__ import annotations

import re

_CLOSING, _OPENING = "\"'”’»)]", "\"'“‘«([¿¡"  # noqa: RUF001
# A run of stops is tried from its first one only, and nothing of it is given back: linear in the text.
_END = re.compile(
    rf"(?<![.!?…])[.!?…]++[{re.escape(_CLOSING)}]*+\s++(?=[{re.escape(_OPENING)}]*(\S))"
    rf"|[。！？][{re.escape(_CLOSING)}]*\s*(?=\S)"  # noqa: RUF001
)
_ABBREVIATIONS = frozenset(
    [
        *("mr", "mrs", "ms", "dr", "prof", "rev", "hon", "st", "jr", "sr", "gen", "col", "capt", "lt", "sgt"),
        *("no", "vol", "fig", "ed", "eds", "pp", "ch", "sec", "art", "op", "cit", "ca", "cf", "vs", "v"),
        *("e.g", "i.e", "viz", "approx", "mt", "ft", "inc", "ltd", "co", "corp", "dept", "gov", "sen", "rep"),
        *("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
    ]
)


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the blanks around them.

    One ends at a full stop, question mark, exclamation mark or ellipsis, with quotes and brackets behind it,
    where a blank follows and then, behind opening ones, anything but a small letter; at a Chinese or
    Japanese full stop; and at the end of a line. A full stop ends none behind a single capital (an initial),
    or one of the commonest abbreviations of English (Mr., No., e.g.). What has neither letter nor digit is
    no sentence, and belongs to the one before.
    """
    found: list[list[str]] = []
    for line in text.splitlines():
        start = before = 0
        for end in _END.finditer(line):
            word, before = line[before : end.end()], end.end()
            if end[1] and (end[1].islower() or _is_abbreviated(word)):
                continue
            _add(found, line[start:before].strip())
            start = before
        _add(found, line[start:].strip())
    return [" ".join(parts) for parts in found]


def _add(found: list[list[str]], sentence: str) -> None:
    if any(letter.isalnum() for letter in sentence):
        found.append([sentence])
    elif sentence and found:
        found[-1].append(sentence)


def _is_abbreviated(text: str) -> bool:
    *_, last = text.rsplit(maxsplit=1)
    word = last[:-1].lstrip(_OPENING)
    return last.endswith(".") and ((len(word) == 1 and word.isupper()) or word.casefold() in _ABBREVIATIONS)
