"""FLOPs that a traced program does, recomputation included."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from contrastive_jax.training.flops import flops

if TYPE_CHECKING:
    from jax.extend.core import Jaxpr, JaxprEqn

PASSES = {jax.lax.Precision.HIGHEST: 6, jax.lax.Precision.HIGH: 3}
"""Passes of a bfloat16 matrix unit that a float32 product takes, by its precision; one by default."""


class Work(NamedTuple):
    """flops: multiplications and additions; passes: the same, a float32 product as often as it is passed."""

    flops: float
    passes: float


def work(jaxpr: Jaxpr) -> Work:
    """Of one run, on all devices together."""
    return Work(flops(jaxpr), flops(jaxpr, passes))


def passes(equation: JaxprEqn) -> int:
    """How often a matrix unit for bfloat16 passes over the operands of a product."""
    if any(operand.aval.dtype != jnp.float32 for operand in equation.invars[:2]):
        return 1
    given = equation.params["precision"]
    return max(PASSES.get(one, 1) for one in (given if isinstance(given, tuple) else (given,)))
