"""The losses and their gradients in float64, by the formulas, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

    Matrix = Float[np.ndarray, "B d"]

_BLOCK = 512


class Gradients(NamedTuple):
    """The value of a loss, and its derivatives; None where a library gives none."""

    value: float
    rows: Matrix
    columns: Matrix
    scale: float | None = None
    bias: float | None = None


def softmax(rows: Matrix, columns: Matrix, scale: float) -> Gradients:
    """With s = scale <rows_i, columns_j>, r and c its log-sum-exps by row and by column:

    L = mean_i (r_i + c_i - 2 s_ii) / 2,   dL/ds_ij = (e^(s_ij - r_i) + e^(s_ij - c_j) - 2 [i = j]) / 2B
    """
    rows, columns = np.asarray(rows, np.float64), np.asarray(columns, np.float64)
    size = len(rows)
    row_sum, column_sum = np.zeros(size), np.zeros(size)
    for at in _blocks(size):
        exponentials = np.exp(scale * (rows[at] @ columns.T - 1))
        row_sum[at] = exponentials.sum(1)
        column_sum += exponentials.sum(0)
    positive = scale * np.einsum("id,id->i", rows, columns)
    value = (np.log(row_sum) + np.log(column_sum)).mean() / 2 + scale - positive.mean()

    def slope(at, dots):
        exponentials = np.exp(scale * (dots - 1))
        return (exponentials / row_sum[at, None] + exponentials / column_sum - 2 * _same(at, size)) / 2

    return _gradients(value, rows, columns, scale, slope)


def sigmoid(rows: Matrix, columns: Matrix, scale: float, bias: float) -> Gradients:
    """With s = scale <rows_i, columns_j> + bias, and y = 1 where i = j, else -1:

    L = 1/B sum_ij log(1 + exp(-y s)),   dL/ds = -y / (1 + exp(y s)) / B
    """
    rows, columns = np.asarray(rows, np.float64), np.asarray(columns, np.float64)
    size, value, total = len(rows), 0.0, 0.0

    def slope(at, dots):
        nonlocal value, total
        sign = 2 * _same(at, size) - 1
        signed = sign * (scale * dots + bias)
        value += np.logaddexp(0, -signed).sum() / size
        slopes = -sign * np.exp(-np.logaddexp(0, signed))
        total += slopes.sum() / size
        return slopes

    gradients = _gradients(0.0, rows, columns, scale, slope)
    return gradients._replace(value=value, bias=total)


def of_unit_length(loss: Callable, rows: Matrix, columns: Matrix, *scalars: float) -> Gradients:
    """The loss of the embeddings made unit length first, as some libraries do.

    Its gradient has no part along an embedding, and is divided by the embedding's length.
    """
    lengths = [np.linalg.norm(np.asarray(z, np.float64), axis=1, keepdims=True) for z in (rows, columns)]
    units = [z / length for z, length in zip((rows, columns), lengths)]
    found = loss(*units, *scalars)
    tangents = (
        (gradient - unit * np.sum(gradient * unit, 1, keepdims=True)) / length
        for gradient, unit, length in zip(found[1:3], units, lengths)
    )
    return Gradients(found.value, *tangents, found.scale, found.bias)


def relative_error(got: Matrix, want: Matrix) -> float:
    """|got - want| / |want|, in the Euclidean norm; |got| where `want` is zero; infinite if not finite."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    error = np.linalg.norm(got - want) / (np.linalg.norm(want) or 1)
    return float(error) if np.isfinite(error) else float("inf")


def errors(got: Gradients, want: Gradients) -> dict[str, float]:
    """`gradient_error`: the larger one of the embeddings'; `scale_gradient_error`, if there is such."""
    found = {
        "gradient_error": max(relative_error(a, b) for a, b in zip(got[1:3], want[1:3])),
        "value_error": relative_error(got.value, want.value),
    }
    for name in ("scale", "bias"):
        ours, reference = getattr(got, name), getattr(want, name)
        if ours is not None and reference is not None:
            found[f"{name}_gradient_error"] = relative_error(ours, reference)
    return found


def _gradients(value, rows, columns, scale, slope) -> Gradients:
    """From `slope(block, dots)`, B times the derivative by the logits of a block of rows."""
    size = len(rows)
    by_rows, by_columns, by_scale = np.empty_like(rows), np.zeros_like(columns), 0.0
    for at in _blocks(size):
        dots = rows[at] @ columns.T
        slopes = slope(at, dots) / size
        by_rows[at] = scale * slopes @ columns
        by_columns += scale * slopes.T @ rows[at]
        by_scale += np.vdot(slopes, dots)
    return Gradients(float(value), by_rows, by_columns, float(by_scale))


def _blocks(size: int):
    return (slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK))


def _same(at: slice, size: int) -> Float64[np.ndarray, "b B"]:
    return np.eye(at.stop - at.start, size, at.start)
