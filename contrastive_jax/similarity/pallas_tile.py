"""Arithmetic on pairs, traced once and evaluated inside a kernel at its lowest rank.

A kernel cannot call a tile as it is: kernel languages know neither [r, 1] nor the transposes that reverse
mode makes. So a function of pairs is traced on 5 rows and 7 columns, and evaluated on a kernel's block
with what depends on a row alone as a vector of the block's rows, likewise for columns and scalars.
Derivatives come by forward mode: as the tile is elementwise, the tangent of ones is the derivative.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from contrastive_jax.similarity.pallas_math import SUBSTITUTES, with_lean_functions
from contrastive_jax.similarity.tiles import Dot, Scores, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Array, PyTree

ROWS, COLUMNS = 5, 7

# What kernels of every kind have, or `pallas_math` makes of what they have
ELEMENTWISE = """
    abs add add_any and clamp convert_element_type cos div eq exp exp2 ge gt integer_pow is_finite le log
    log1p logistic lt max min mul ne neg not one_minus_square or rsqrt select_n sign sin sqrt square sub tanh
    xor
"""
SHAPING = "broadcast_in_dim copy expand_dims pvary reshape squeeze stop_gradient"
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "custom_jvp_call": "call_jaxpr"}


class UnsupportedError(ValueError):
    """Why something cannot run inside a kernel."""


class Slope(NamedTuple):
    """The derivative of a tile's logits and targets in one leaf, pair by pair."""

    logits: Any
    targets: Any


class Pairs(NamedTuple):
    """A function of pairs, and which of its row vectors, column vectors and scalars it reads.

    evaluate(dots [r, c], rows [r], columns [c], scalars) takes those alone (or [r, 1] and [1, c]), and
    returns the values flat, each [r, c]: the matrix if there is one, then the terms of rows, of columns.
    """

    evaluate: Callable[..., list]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    scalars: tuple[int, ...]
    has_matrix: bool
    terms: tuple[Any, Any]


def scores(tile: Dot, dots, rows: PyTree, columns: PyTree, shared: PyTree) -> Scores:
    """The tile's scores with logits, and targets that float, in float32."""
    found = normalise(with_lean_functions(tile.scores)(dots, rows, columns, shared))
    if not isinstance(found, Scores):
        raise UnsupportedError(f"the tile returns {type(found).__name__}, not scores")
    targets = found.targets.astype(jnp.float32) if is_soft(found) else found.targets
    return found._replace(logits=found.logits.astype(jnp.float32), targets=targets)


def is_soft(found: Scores) -> bool:
    return found.targets is not None and jnp.issubdtype(found.targets.dtype, jnp.floating)


def slopes(tile: Dot, dots, trees: Sequence[PyTree], wanted: Sequence[Sequence[bool]]):
    """(scores, slope in dots, by tree the slopes in those of its floating leaves that are wanted).

    trees: rows, columns and shared; wanted: a flag for each floating leaf of each.
    """
    leaves, structure = jax.tree.flatten(tuple(trees))
    flags = iter([flag for flags in wanted for flag in flags])
    places = [i for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating) and next(flags)]

    def outputs(dots, *floating):
        full = list(leaves)
        for i, leaf in zip(places, floating):
            full[i] = leaf
        found = scores(tile, dots, *structure.unflatten(full))
        return (found.logits, found.targets if is_soft(found) else None), found

    given = [dots, *(leaves[i] for i in places)]
    _, push, found = jax.linearize(outputs, *given, has_aux=True)
    tangents = [
        [(jnp.ones_like if i == k else jnp.zeros_like)(x) for i, x in enumerate(given)]
        for k in range(len(given))
    ]
    in_dots, *in_leaves = [Slope(*push(*tangent)) for tangent in tangents]
    in_leaves = iter(in_leaves)
    return found, in_dots, [[next(in_leaves) for flag in flags if flag] for flags in wanted]


def trace(
    function: Callable, rows: Sequence[Array], columns: Sequence[Array], scalars: Sequence[Array]
) -> Pairs:
    """function(dots [r, c], rows [r] each, columns [c] each, scalars) -> matrix or None, terms, terms.

    The values are [r, c]; terms are to be summed over the columns, and over the rows.
    Raises UnsupportedError where it does more than arithmetic on pairs.
    """
    examples = [
        [_example("row", x, (ROWS,)) for x in rows],
        [_example("column", x, (COLUMNS,)) for x in columns],
        [_example("shared", x, ()) for x in scalars],
    ]
    dots = jax.ShapeDtypeStruct((ROWS, COLUMNS), jnp.float32)
    closed, out = jax.make_jaxpr(lambda dots, lists: function(dots, *lists), return_shape=True)(
        dots, examples
    )
    for constant in closed.consts:
        if np.ndim(constant):
            raise UnsupportedError(f"the tile closes over an array of shape {np.shape(constant)}")
    _refuse(closed.jaxpr)
    invars = closed.jaxpr.invars
    ends = np.cumsum([1, *map(len, examples)])
    needed = _needed(closed.jaxpr)[0]
    used = [tuple(i for i in range(b - a) if invars[a + i] in needed) for a, b in pairwise(ends)]

    def evaluate(dots, rows, columns, scalars) -> list:
        block = _Block(dots.shape, any(x.ndim == 2 for x in (*rows, *columns)))
        values = [None] * len(invars)
        values[0] = dots, (0, 1)
        for places, start, given, axes in zip(used, ends, (rows, columns, scalars), ((0,), (1,), ())):
            for place, value in zip(places, given, strict=True):
                values[start + place] = value, axes
        results = _evaluate(closed.jaxpr, closed.consts, values, block)
        types = [variable.aval.dtype for variable in closed.jaxpr.outvars]
        return [block.spread(x, dtype, (0, 1)) for x, dtype in zip(results, types)]

    matrix, *terms = out
    return Pairs(evaluate, *used, matrix is not None, tuple(map(jax.tree.structure, terms)))


class _Block(NamedTuple):
    """The shape of a kernel's block, and whether its vectors are [r, 1] and [1, c] instead of [r] and [c]."""

    shape: tuple[int, int]
    is_flat: bool

    def spread(self, operand, dtype, axes: tuple[int, ...]):
        """A value broadcast to the axes that its partners have."""
        x, own = operand
        if not isinstance(x, jax.core.Tracer):
            x = jnp.asarray(np.asarray(x).item(), dtype)
        if own == axes:
            return x
        if self.is_flat:
            shape = [n if axis in axes else 1 for axis, n in enumerate(self.shape)] if axes else []
            if dtype == jnp.bool_:  # vectors of bits cannot be broadcast
                return jnp.broadcast_to(x.astype(jnp.int32), shape) != 0
            return jnp.broadcast_to(x, shape)
        return lax.broadcast_in_dim(
            x, [self.shape[axis] for axis in axes], [axes.index(axis) for axis in own]
        )


def _example(side: str, leaf, shape: tuple) -> jax.ShapeDtypeStruct:
    if jnp.ndim(leaf) != len(shape):
        wanted = "only scalars" if side == "shared" else "one number an example"
        raise UnsupportedError(f"a {side} leaf has shape {jnp.shape(leaf)}: kernels read {wanted}")
    dtype = jnp.result_type(leaf)
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended) or np.dtype(dtype).itemsize > 4:
        raise UnsupportedError(f"a {side} leaf is {dtype}: kernels work in 32 bits")
    return jax.ShapeDtypeStruct(shape, dtype)


def _refuse(jaxpr) -> None:
    """Raises where the function is not arithmetic on pairs."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        for variable in equation.outvars:
            sizes = [n for n in variable.aval.shape if n != 1]
            if sizes not in ([], [ROWS], [COLUMNS], [ROWS, COLUMNS]):
                raise UnsupportedError(f"the tile makes an array of shape {variable.aval.shape} by {name}")
        if name in CALLS:
            _refuse(_inner(equation))
        elif name in SHAPING.split():
            shapes = [variable.aval.shape for variable in (equation.invars[0], equation.outvars[0])]
            if not {n for n in shapes[0] if n != 1} <= set(shapes[1]):
                raise UnsupportedError(f"the tile turns {shapes[0]} into {shapes[1]} by {name}")
        elif name not in ELEMENTWISE.split():
            raise UnsupportedError(f"the tile uses {name}, which is not elementwise in the pairs")


def _inner(equation):
    jaxpr = equation.params[CALLS[equation.primitive.name]]
    return getattr(jaxpr, "jaxpr", jaxpr)


def _needed(jaxpr) -> tuple[set, list]:
    """The variables and equations that the outputs depend on."""
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    equations = []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
            equations.append(equation)
    return needed, equations[::-1]


def _evaluate(jaxpr, consts, values: list, block: _Block) -> list:
    """Values are (array, the axes of the block that it has); broadcasting waits until two ranks meet."""
    known = dict(zip(jaxpr.constvars, ((c, ()) for c in consts))) | dict(zip(jaxpr.invars, values))

    def read(atom):
        return (atom.val, ()) if isinstance(atom, Literal) else known[atom]

    for equation in _needed(jaxpr)[1]:
        operands = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            results = _evaluate(_inner(equation), getattr(inner, "consts", ()), operands, block)
        elif name in SHAPING.split():
            results = operands[:1]
        else:
            results = [_apply(equation, operands, block)]
        known.update(zip(equation.outvars, results))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation, operands: list, block: _Block):
    name, params = equation.primitive.name, equation.params
    if all(_is_constant(x) for x in operands) and name != "add_any":
        # of no mesh: a constant is the same wherever the kernel is traced
        with (
            jax.ensure_compile_time_eval(),
            jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())),
        ):
            values = [jnp.asarray(x, atom.aval.dtype) for (x, _), atom in zip(operands, equation.invars)]
            return np.asarray(equation.primitive.bind(*values, **params)), ()
    zero, one = ([_is_constant(x, value) for x in operands] for value in (0, 1))
    if name in ("add", "add_any", "sub") and zero[-1]:
        return operands[0]
    if name in ("add", "add_any") and zero[0]:
        return operands[1]
    if name == "mul" and any(zero):
        return operands[zero.index(True)]
    if name == "mul" and any(one):
        return operands[1 - one.index(True)]
    if name == "select_n" and all(_is_constant(x, 0) for x in operands[1:]):
        return operands[1]
    axes = tuple(sorted({axis for _, axes in operands for axis in axes}))
    if name == "convert_element_type":
        return operands[0][0].astype(params["new_dtype"]), axes
    full = [block.spread(x, atom.aval.dtype, axes) for x, atom in zip(operands, equation.invars)]
    if name in SUBSTITUTES and not (name == "not" and full[0].dtype != jnp.bool_):
        return SUBSTITUTES[name](*full), axes
    return equation.primitive.bind(*full, **params), axes


def _is_constant(operand, value: float | None = None) -> bool:
    """Known while the kernel is traced (and equal to `value`); inside it everything else is a tracer."""
    x, _ = operand
    if isinstance(x, jax.core.Tracer):
        return False
    return value is None or bool(np.all(np.asarray(x) == value))
