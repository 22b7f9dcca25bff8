"""Texts that say something else with the same, or nearly the same, words: hard negatives and order tests.

Two words of one kind change places (Yuksekgonul et al. 2023, NegCLIP and ARO, arXiv:2210.01936), or the
words stand in another order. Kinds are lists of words that the user gives, such as colours and shapes; the
paper finds nouns and adjectives with a tagger.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views.words import AROUND, core

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    Kinds = Sequence[frozenset[str]]

ORDERS = ("words", "trigrams", "within_trigrams", "listed", "unlisted")
_TRIES = 64  # each of which finds another order with a probability of a half at least


def swapped(words: Sequence[str], kinds: Kinds, rng: np.random.Generator) -> list[str]:
    """Two different words of one kind in each other's place.

    The kind is drawn evenly among those with two different words in the text, and then the two. Where there
    is none, a word of a kind is replaced by another of its kind; where there is none of these either, all
    words are shuffled. So the text always is another one. Punctuation and capitals stay where they are.

    Args:
        words: of the text.
        kinds: words in small letters that can stand for each other.

    Raises:
        BrokenRecord: the text has no two different words.
    """
    words, cores = list(words), [core(word) for word in words]
    places = [[i for i, found in enumerate(cores) if found in kind] for kind in kinds]
    pairs = [[(i, j) for i in of for j in of if i < j and cores[i] != cores[j]] for of in places]
    if any(pairs):
        of = _one(list(filter(None, pairs)), rng)
        i, j = _one(of, rng)
        words[i], words[j] = _in_place(words[i], cores[j]), _in_place(words[j], cores[i])
        return words
    able = [(i, kind) for kind, of in zip(kinds, places) for i in of if len(kind) > 1]
    if able:
        i, kind = _one(able, rng)
        words[i] = _in_place(words[i], _one(sorted(kind - {cores[i]}), rng))
        return words
    return reordered(words, "words", rng)


def reordered(words: Sequence[str], order: str, rng: np.random.Generator, kinds: Kinds = ()) -> list[str]:
    """The words in another order, evenly drawn among those that make another text.

    Args:
        words: of the text.
        order: ``words``: any; ``trigrams``: runs of three change places; ``within_trigrams``: words change
            places within each run of three; ``listed``: words of the `kinds` change places with each other;
            ``unlisted``: all others do. Where one of these finds no other text, it is ``words``.
        kinds: see `swapped`.

    Raises:
        BrokenRecord: the text has no two different words.
    """
    for way in dict.fromkeys((order, "words")):
        for _ in range(_TRIES):
            changed = _drawn(words, way, rng, kinds)
            if changed != list(words):
                return changed
    raise BrokenRecord("its words have no other order")


def _drawn(words: Sequence[str], order: str, rng: np.random.Generator, kinds: Kinds) -> list[str]:
    if order == "trigrams":
        runs = [words[start : start + 3] for start in range(0, len(words), 3)]
        return [word for run in rng.permutation(len(runs)).tolist() for word in runs[run]]
    pools = defaultdict(list)  # places whose words change with each other
    for place, word in enumerate(words):
        listed = order.endswith("listed") and any(core(word) in kind for kind in kinds)
        pool = {"within_trigrams": place // 3, "listed": listed, "unlisted": not listed}.get(order, True)
        if pool is not False:
            pools[pool].append(place)
    changed = list(words)
    for places in pools.values():
        for place, source in zip(places, rng.permutation(places).tolist()):
            changed[place] = words[source]
    return changed


def _in_place(word: str, new: str) -> str:
    """`word` with `new` for its letters; marks around it, and a capital, stay."""
    bare = word.strip(AROUND)
    before, _, behind = word.partition(bare)
    return before + (new[:1].upper() + new[1:] if bare[:1].isupper() else new) + behind


def _one(things: Sequence, rng: np.random.Generator):
    return things[int(rng.random() * len(things))]
