"""The sigmoid loss: every pair is a question of its own, so one sweep gives value and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.pairs import PairLoss, records, relation
from contrastive_jax.similarity import Scores, total

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

    rows, columns, scale, positives, ignore, present, engine: as in `softmax_contrastive`; the keywords
    of `engine` are those of `similarity.total`. R counts the rows that are present.

    Source: Zhai et al. 2023, arXiv 2303.15343. Raises ValueError for shapes that do not fit.
    """
    sides = records(rows, columns, positives, ignore, present)
    dtype = jnp.promote_types(jnp.float32, rows.dtype)
    shared = {"scale": jnp.asarray(scale, dtype), "bias": jnp.asarray(bias, dtype)}
    count = sides[0]["present"].sum() if present is not None else len(rows)
    value = total(_tile, *sides, shared, **(engine or {})) / jnp.maximum(count, 1)
    return Loss(value, dict(shared))


def _tile(rows, columns, shared) -> Scores:
    positive, mask = relation(rows, columns)
    dots = jnp.matmul(rows["embedding"], columns["embedding"].T, preferred_element_type=shared["scale"].dtype)
    logits = shared["scale"] * dots + shared["bias"]
    return Scores(jax.nn.softplus(jnp.where(positive, -logits, logits)), mask)


@dataclass(frozen=True)
class SigmoidContrastive(PairLoss):
    """`sigmoid_contrastive` of two branches; scale and bias are learned, from the paper's initial values."""

    scale: float = 10.0
    bias: float = -10.0

    def init(self) -> dict[str, Array]:
        return {"log_scale": jnp.log(jnp.float32(self.scale)), "bias": jnp.float32(self.bias)}

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        pair, labels = self.arguments(embeddings, fields)
        return sigmoid_contrastive(*pair, scale=jnp.exp(params["log_scale"]), bias=params["bias"], **labels)
