"""Random numbers that depend on a seed and a place alone."""

from __future__ import annotations

import hashlib

import numpy as np


class Streams:
    """Random generators addressed by two numbers, from a seed and a name (Philox counters).

    The generator for one address always yields the same numbers, whatever was drawn before, so they
    depend neither on workers nor on hosts. One object serves one thread.

    Args:
        seed: the run's seed, 0 <= seed < 2**63.
        name: keeps apart what draws from the same addresses.
    """

    def __init__(self, seed: int, name: str) -> None:
        digest = hashlib.sha256(name.encode()).digest()
        self._bits = np.random.Philox(key=[seed, int.from_bytes(digest[:8], "little")])
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state

    def at(self, step: int, position: int) -> np.random.Generator:
        """The generator of one address; it is good until the next call of `at`."""
        # Setting the state takes a third of the time of making a generator. The counter's lowest word
        # counts the draws.
        counter = np.array([0, position, step, 0], np.uint64)
        self._bits.state = self._state | {"state": self._state["state"] | {"counter": counter}}
        return self._generator
