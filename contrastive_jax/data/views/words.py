"""Changes of a text's words at training, each drawn from `rng`. Words are what stands between blanks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

AROUND = ".,;:!?…()[]{}\"'“”‘’«»"  # noqa: RUF001 (what a word may have before and behind it)
_DELETED = 0.1  # of the words, by the deletion of EDA
STOP_WORDS = frozenset(
    """a about above after again against all am an and any are as at be because been before being below
    between both but by can could did do does doing down during each few for from further had has have
    having he her here hers herself him himself his how i if in into is it its itself just me more most my
    myself no nor not now of off on once only or other our ours ourselves out over own same she should so
    some such than that the their theirs them themselves then there these they this those through to too
    under until up very was we were what when where which while who whom why will with would you your yours
    yourself yourselves""".split()  # noqa: SIM905
)


def core(word: str) -> str:
    """A word without the marks around it, in small letters, for comparing."""
    return word.strip(AROUND).casefold()


def span(words: Sequence[str], shares: tuple[float, ...], rng: np.random.Generator) -> Sequence[str]:
    """A run of so many of the words, as a share that is drawn evenly, as its place is; one word at least.

    Source: Izacard et al. 2022, Contriever, arXiv:2112.09118.
    """
    share, place = rng.random(2).tolist()
    count = max(round(len(words) * (shares[0] + share * (shares[1] - shares[0]))), 1)
    start = int(place * (len(words) - count + 1))
    return words[start : start + count]


def thinned(words: Sequence[str], rate: float, rng: np.random.Generator) -> Sequence[str]:
    """The words without some of them, each left out with probability `rate`; never without all."""
    return [word for word, u in zip(words, rng.random(len(words))) if u >= rate] or words


def without_stop_words(words: Sequence[str]) -> Sequence[str]:
    """The words but for the commonest English ones; all of them where nothing else is there."""
    return [word for word in words if core(word) not in STOP_WORDS] or words


def exchanged(words: Sequence[str], rng: np.random.Generator) -> Sequence[str]:
    """Two words, anywhere and evenly drawn, in each other's place."""
    if len(words) < 2:
        return words
    changed = list(words)
    one, other = rng.choice(len(words), 2, replace=False).tolist()
    changed[one], changed[other] = changed[other], changed[one]
    return changed


def easily_changed(
    words: Sequence[str], weights: tuple[float, ...], rng: np.random.Generator
) -> Sequence[str]:
    """One of three things, drawn by `weights`: nothing, two words exchanged, a tenth of them left out.

    Source: EDA, Wei and Zou 2019, arXiv:1901.11196, one operation a text as Fini et al. 2023 use it,
    arXiv:2305.08675. (Their synonyms need a thesaurus.)
    """
    drawn = rng.random() * sum(weights)
    if drawn < weights[0]:
        return words
    if drawn < weights[0] + weights[1]:
        return exchanged(words, rng)
    return thinned(words, _DELETED, rng)
