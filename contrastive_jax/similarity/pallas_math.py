"""Functions as kernels can afford them: few instructions, no division, and no guard for what cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Array, Float

LOG2_E = 1.4426950408889634

# log(1 + x) / x, fitted for the smallest largest relative error: on [-0.3, 1], and on [0, 1]
LOG1P = (
    0.999999987, -0.50000115, 0.333337344, -0.249928122, 0.199739002, -0.167552463,
    0.147827818, -0.128268082, 0.0906119778, -0.0409820554, 0.00836296332,
)  # fmt: skip
LOG1P_OF_POSITIVE = (
    0.999998732, -0.499869656, 0.331094483, -0.235038575, 0.14922382, -0.0664017514, 0.0141410076,
)  # fmt: skip


def in_powers_of_two(shift: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """c, f with exp(x - shift) = 2^(x log2(e) - c) f, where c is whole.

    So a kernel spends one multiplication and addition on an exponent, and shift log2(e) is not rounded:
    of a shift of 50 the rounding alone would be 2e-6 of every sum.
    """
    shift = jnp.asarray(shift, jnp.float32)
    most, short = jnp.round(shift), 1477 / 1024  # log2(e) in so few digits that the next product is exact
    whole = jnp.round(most * short)
    rest = (most * short - whole) + most * (LOG2_E - short) + (shift - most) * LOG2_E
    return whole, jnp.exp2(-rest)


def log1p(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + x) to 3e-7 of itself: about 0 a kernel's own logarithm has few right digits."""
    return jnp.where((x > -0.3) & (x <= 1), x * _polynomial(LOG1P, x), jnp.log(1 + x))


@jax.custom_jvp
def softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + e^x) to 2e-6 (and 6e-8 |x|) of itself; its derivative shares the exponential."""
    return _softplus_and_slope(x)[0]


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    value, slope = _softplus_and_slope(*primals)
    return value, slope * tangents[0]


def _softplus_and_slope(x):
    small = jnp.exp2(jnp.abs(x) * -LOG2_E)
    rest = small * _polynomial(LOG1P_OF_POSITIVE, small)
    return jnp.maximum(x, 0) + rest, jnp.where(x >= 0, 1, small) * jnp.exp2(rest * -LOG2_E)


def _polynomial(coefficients: Sequence[float], x):
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def _sqrt(x):
    return jnp.where((x == 0) | (x == jnp.inf), x, x * lax.rsqrt(x))


# By the primitive's name; some kernels have no such operation, or one of few right digits
SUBSTITUTES = {
    "add_any": lambda x, y: x + y,
    "is_finite": lambda x: jnp.abs(x) < jnp.inf,
    "log1p": log1p,
    "not": lambda x: x ^ True,
    "one_minus_square": lambda x: 1 - x * x,
    "sqrt": _sqrt,
}


def with_lean_functions(function: Callable) -> Callable:
    """The same function, where `jax.nn.softplus` and what is made of it are the above."""

    def lean(*arguments):
        leaves, structure = jax.tree.flatten(arguments)
        closed, out = jax.make_jaxpr(lambda *x: function(*structure.unflatten(x)), return_shape=True)(*leaves)
        return jax.tree.unflatten(jax.tree.structure(out), _replayed(closed.jaxpr, closed.consts, leaves))

    return lean


def _replayed(jaxpr, consts, arguments: list) -> list:
    known = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, arguments))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        if _is_softplus(equation):
            results = [softplus(operands[0])]
        elif equation.primitive.name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            results = _replayed(inner.jaxpr, inner.consts, operands)
        else:
            parameters = equation.primitive.get_bind_params(equation.params)
            results = equation.primitive.bind(*operands, **parameters)
            results = results if equation.primitive.multiple_results else [results]
        known.update(zip(equation.outvars, results))
    return [read(atom) for atom in jaxpr.outvars]


def _is_softplus(equation) -> bool:
    """jax.nn.softplus(x) is logaddexp(x, 0), which has a rule of its own for derivatives."""
    if equation.primitive.name != "custom_jvp_call":
        return False
    zero = equation.invars[-1]
    name = equation.params["call_jaxpr"].jaxpr.debug_info.func_name
    return name == "logaddexp" and isinstance(zero, Literal) and float(zero.val) == 0
