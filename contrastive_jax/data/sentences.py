"""A text's sentences, by a simple rule that needs no model."""

from __future__ import annotations

import re

_CLOSING, _OPENING = r"[\"'”’»)\]]*", r"[\"'“‘«(\[¿¡]*"  # noqa: RUF001
_END = re.compile(rf"[.!?…]+{_CLOSING}\s+(?={_OPENING}(\S))|[。！？]{_CLOSING}\s*(?=\S)")  # noqa: RUF001
_LAST_WORD = re.compile(rf"{_OPENING}(\S+)\.$")
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
    found: list[str] = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if end[1] and (end[1].islower() or _is_abbreviated(line[start : end.end()].rstrip())):
                continue
            _add(found, line[start : end.end()].strip())
            start = end.end()
        _add(found, line[start:].strip())
    return found


def _add(found: list[str], sentence: str) -> None:
    if any(letter.isalnum() for letter in sentence):
        found.append(sentence)
    elif sentence and found:
        found[-1] += f" {sentence}"


def _is_abbreviated(text: str) -> bool:
    word = _LAST_WORD.search(text)
    if word is None:
        return False
    return (len(word[1]) == 1 and word[1].isupper()) or word[1].casefold() in _ABBREVIATIONS
