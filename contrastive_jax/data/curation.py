"""Which texts to keep, so that no subject drowns the others: matching with a list of entries, and balance.

Source: Xu et al. 2024, Demystifying CLIP Data (MetaCLIP), arXiv:2309.16671.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data import files
from contrastive_jax.data.streams import Streams
from contrastive_jax.data.views.text import strings
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jaxtyping import Bool, Float64, Int64

_IN_WORDS = "'’-_"  # noqa: RUF001


class _Wrapped(dict):
    """For `str.translate`: punctuation and symbols get blanks round them, but for those inside words."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        apart = unicodedata.category(letter)[0] in "PS" and letter not in _IN_WORDS
        self[code] = f" {letter} " if apart else letter
        return self[code]


_WRAPPED = _Wrapped()


def words_of(text: str) -> list[str]:
    """What stands between blanks once punctuation stands apart, as ``dog's``, ``,``, ``well-known``."""
    return text.translate(_WRAPPED).split()


def entries_of(path: str) -> list[str]:
    """The entries that a file lists, one a line, of equal ones the first; InputError where there are none."""
    try:
        lines = files.read(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})") from error
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise InputError(f"{path}: it holds no entry; write one a line")
    return list(dict.fromkeys(entries))


def together(values: Iterable[Any]) -> str:
    """The texts among the values, those in lists too, as one in which no entry reaches over two of them."""
    return " \x00 ".join(strings(values))


class Entries:
    """A list of entries (words, names, phrases) to look for in texts.

    An entry is in a text where its words stand in it as a run of whole words, with the same capitals:
    "Paris" is in "to Paris, by train", and neither in "Parisian" nor in "paris". This is what the paper's
    search for " entry " in a text with blanks round its punctuation finds. Only runs that begin with the
    first word of an entry are looked up, so the time does not depend on how many entries there are.

    Args:
        entries: of equal ones the first counts; one without words is in no text.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._numbers: dict[tuple[str, ...], int] = {}
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for number, entry in enumerate(entries):
            words = tuple(words_of(entry))
            if words:
                self._numbers.setdefault(words, number)
                lengths[words[0]].add(len(words))
        self._lengths = dict(lengths)

    def __call__(self, text: str) -> list[int]:
        """The numbers of the entries that are in a text, ascending, each once."""
        words, found = words_of(text), set()
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                number = self._numbers.get(tuple(words[start : start + length]))
                if number is not None:
                    found.add(number)
        return sorted(found)


def match(texts: Iterable[str], metadata: Iterable[str]) -> list[list[int]]:
    """The numbers of the entries of `metadata` that are in each text; see `Entries`."""
    entries = Entries(metadata)
    return [entries(text) for text in texts]


def counts(matches: Iterable[Sequence[int]], entries: int) -> Int64[np.ndarray, " E"]:
    """How many texts each of `entries` entries is in."""
    return np.bincount([number for found in matches for number in found], minlength=entries)


def keep_probability(
    matches: Sequence[Sequence[int]], counts: Int64[np.ndarray, " E"], cap: float
) -> Float64[np.ndarray, " n"]:
    """With what probability `balance` keeps each text: 1 - prod_e (1 - p_e) over its entries e, where
    p_e = min(1, cap / counts_e); 0 without an entry."""
    chances = _chances(counts, cap)
    return np.array([1 - np.prod(1 - chances[list(found)]) if found else 0.0 for found in matches])


def balance(
    matches: Sequence[Sequence[int]], counts: Int64[np.ndarray, " E"], cap: float, key: int
) -> Bool[np.ndarray, " n"]:
    """Which texts to keep: those for one of whose entries e a number drawn evenly from 0 to 1 is below
    p_e = min(1, cap / counts_e).

    So an entry of at most `cap` texts keeps all of them, each other one keeps about `cap` through itself,
    and a text without an entry goes.

    Args:
        matches: the entries of each text, by number.
        counts: of each entry, texts that it is in. They may be those of a larger collection.
        cap: t of the paper (20,000 of 400 million); infinity keeps all that have an entry.
        key: of the draws, 0 <= key < 2**63: the same key, place and matches give the same answer.
    """
    chances, streams = _chances(counts, cap), Streams(key, "balance")
    kept = np.zeros(len(matches), bool)
    for place, found in enumerate(matches):
        if found:
            kept[place] = (streams.at(0, place).random(len(found)) < chances[list(found)]).any()
    return kept


def entropy(counts: Int64[np.ndarray, " E"]) -> float:
    """Of the distribution of matches over entries, in nats; 0 where there is no match."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())


def _chances(counts: Int64[np.ndarray, " E"], cap: float) -> Float64[np.ndarray, " E"]:
    return np.minimum(1.0, cap / np.maximum(counts, 1))
