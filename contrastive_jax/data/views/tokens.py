"""Changes of a text's own tokens at training, before the begin and end tokens are put round them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int32, Int64

    Tokens = Int32[np.ndarray, " n"]


def thinned(tokens: Tokens, rate: float, rng: np.random.Generator) -> Tokens:
    """Each token is left out with probability `rate`, but never all of them.

    Source: Izacard et al. 2022, Contriever, arXiv:2112.09118, with a rate of 0.1.
    """
    kept = tokens[rng.random(len(tokens)) >= rate]
    return kept if len(kept) else tokens


def repeated(tokens: Tokens, rate: float, rng: np.random.Generator) -> Tokens:
    """Some tokens stand twice, the second beside the first; all others stay, in their order.

    How many is a whole number drawn evenly from 0 to max(2, rate x n), n at most; which is drawn evenly, each
    once at most.

    Source: Wu et al. 2022, ESimCSE, arXiv:2109.04380, with a rate of 0.32.
    """
    most = min(max(2, int(rate * len(tokens))), len(tokens))
    count = int(rng.random() * (most + 1))
    times = np.ones(len(tokens), int)
    times[rng.choice(len(tokens), count, replace=False)] = 2
    return np.repeat(tokens, times)


def masked(
    tokens: Tokens,
    rate: float,
    shares: tuple[float, ...],
    spared: int,
    mask: int,
    ordinary: Int64[np.ndarray, " v"],
    rng: np.random.Generator,
) -> Tokens:
    """Each token is chosen with probability `rate`; a chosen one becomes the mask, or any token, or stays.

    Args:
        tokens: the text's own.
        rate: of choosing.
        shares: of the three things that become of a chosen one; (0.8, 0.1, 0.1) is that of BERT (Devlin et
            al. 2019, arXiv:1810.04805).
        spared: so many tokens at the beginning are never chosen.
        mask: the id.
        ordinary: the ids of which "any token" is drawn evenly.
        rng: of all draws.
    """
    chosen, become, which = rng.random((3, len(tokens)))
    chosen = (chosen < rate) & (np.arange(len(tokens)) >= spared)
    become = become * sum(shares)
    replacement = ordinary[(which * len(ordinary)).astype(int)].astype(tokens.dtype)
    tokens = np.where(chosen & (become < shares[0] + shares[1]), replacement, tokens)
    return np.where(chosen & (become < shares[0]), mask, tokens)
