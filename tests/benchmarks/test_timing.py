"""Contenders take turns, and the fewest seconds of each count."""

import jax
import jax.numpy as jnp

from contrastive_jax.benchmarks.machine import footprint, free_bytes
from contrastive_jax.benchmarks.timing import clock, interleave


def test_turns():
    calls, seconds = [], iter(range(100, 0, -1))

    def contender(name):
        return lambda: calls.append(name) or next(seconds)

    fastest = interleave({name: contender(name) for name in "abc"}, runs=7)
    assert "".join(calls) == "cbaabc" * 4
    assert fastest == {"a": 79, "b": 78, "c": 77}


def test_the_warm_up_does_not_count():
    seconds = iter([0.0, 3.0, 2.0, 4.0])
    assert interleave({"a": lambda: next(seconds)}, runs=3) == {"a": 2.0}


def test_the_clock_waits_for_what_is_computed():
    done = []

    class Slow:
        def block_until_ready(self):
            done.append(True)

    assert clock(Slow)() >= 0
    assert done == [True]
    assert clock(lambda: jnp.zeros(3))() > 0


def test_memory_of_a_program():
    def square(x):
        whole = x @ x.T
        return whole @ whole

    compiled = jax.jit(square).lower(jnp.zeros((512, 4))).compile()
    found = footprint(compiled)
    assert found["argument_bytes"] == 512 * 4 * 4
    assert found["temp_bytes"] >= 512 * 512 * 4
    assert free_bytes(jax.devices()[0]) > 2**20
