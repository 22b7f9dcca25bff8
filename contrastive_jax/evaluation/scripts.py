"""In which script a text is written."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable

_SAMPLE = 100  # texts of a language suffice
# What is written together counts as one script.
_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "FULLWIDTH": "LATIN"}


def script_of(texts: Iterable[str]) -> str:
    """The script of most letters, by the first word of their Unicode names: LATIN, CYRILLIC, CJK ..."""
    counts: Counter[str] = Counter()
    for _, text in zip(range(_SAMPLE), texts):
        counts.update(filter(None, map(_script, text)))
    return counts.most_common(1)[0][0] if counts else ""


@functools.cache
def _script(letter: str) -> str:
    if not letter.isalpha():
        return ""
    first = unicodedata.name(letter, "").partition(" ")[0]
    return _TOGETHER.get(first, first)
