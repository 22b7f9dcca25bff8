"""The sigmoid loss: every pair is a question of its own, so one sweep gives value and gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.pairs import checked_scale, finite, guarded, one_a_side, records, relation
from contrastive_jax.losses.wiring import PairLoss
from contrastive_jax.similarity import Dot, Scores, total

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive_jax.losses.pairs import Labels


def sigmoid_contrastive(
    rows: Float[Array, "R d"],
    columns: Float[Array, "C d"],
    *,
    scale: Float[Array, ""] | float,
    bias: Float[Array, ""] | float,
    positives: Labels = None,
    ignore: Labels = None,
    present: Labels = None,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Whether each pair belongs together, as a logistic regression on scale <row, column> + bias.

        L = 1/R sum_ij log(1 + exp(-y_ij (scale <rows_i, columns_j> + bias))),  y_ij = +1 or -1

    rows, columns, scale, positives (group labels), ignore, present, engine: as in `softmax_contrastive`;
    the keywords of `engine` are those of `similarity.total`. R counts the rows that are present. A
    number that is not finite in an embedding makes the value +inf and every gradient 0.

    Source: Zhai et al. 2023, arXiv 2303.15343. Raises ValueError for shapes that do not fit and for a
    scale that is not positive.
    """
    given = rows, columns, checked_scale(scale), bias
    (rows, columns, scale, bias), fine = finite(*given, present=present)
    sides = records(rows, columns, positives, ignore, present)
    dtype = jnp.promote_types(jnp.float32, rows.dtype)
    shared = {"scale": jnp.asarray(scale, dtype), "bias": jnp.asarray(bias, dtype)}
    count = len(rows) if present is None else one_a_side(present)[0].sum()
    value = total(Dot(_values), *sides, shared, **(engine or {})) / jnp.maximum(count, 1)
    return Loss(guarded(value, fine), dict(shared))


def _values(dots, rows, columns, shared) -> Scores:
    positive, mask = relation(rows, columns)
    logits = shared["scale"] * dots + shared["bias"]
    return Scores(jax.nn.softplus(jnp.where(positive, -1, 1) * logits), mask)


@dataclass(frozen=True, kw_only=True)
class SigmoidContrastive(PairLoss):
    """`sigmoid_contrastive` of two branches; the bias is learned, from the paper's initial values."""

    scale: float = 10.0
    bias: float = -10.0

    def init(self) -> dict[str, Array]:
        return {**super().init(), "bias": jnp.float32(self.bias)}

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        """With the bias that is best for it: every pair belongs together with probability 1 / B."""
        B = batch_size
        return math.log(B) + (B - 1) * math.log(B / (B - 1)) if B > 1 else None

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        pair, labels = self.arguments(embeddings, fields)
        return sigmoid_contrastive(*pair, scale=self.scale_of(params), bias=params["bias"], **labels)
