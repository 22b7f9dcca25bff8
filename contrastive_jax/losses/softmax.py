"""Softmax contrastive losses: InfoNCE in one or both directions, with several positives and masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.pairs import PairLoss, records, relation
from contrastive_jax.similarity import Scores, Sums, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive_jax.losses.pairs import Labels


def softmax_contrastive(
    rows: Float[Array, "R d"],
    columns: Float[Array, "C d"],
    *,
    scale: Float[Array, ""] | float,
    positives: Labels = None,
    ignore: Labels = None,
    present: Labels = None,
    label_smoothing: float = 0.0,
    symmetric: bool = True,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Cross-entropy of each row against the columns, and of each column against the rows.

    With l_ij = scale <rows_i, columns_j>, P_i the positives of row i and V_i the columns that take part:

        L_i = log sum_{j in V_i} exp(l_ij) - (1 - e) mean_{j in P_i} l_ij - e mean_{j in V_i} l_ij

    and the value is the mean of L_i over the rows that have a positive; if `symmetric`, the mean of that
    and of the same for the columns. A batch without any positive has value 0.

    rows, columns: embeddings, as a rule of unit length; nothing here normalises them.
    scale: multiplies the logits (1 / temperature).
    positives: ids [B] or a pair ([R], [C]); equal ids are positives. None: row i and column i.
    ignore: ids likewise; a pair with equal ones that is no positive is left out (no false negative).
    present: booleans likewise; an absent example is neither a row nor a column.
    label_smoothing: e above. engine: keywords of `similarity.cross_entropy` (axes, block, mesh).

    Metrics: `scale`, and over the rows `positive_logit` (mean) and `positive_probability` (geometric
    mean over a row's positives, then the mean).

    Sources: van den Oord et al. 2018, arXiv 1807.03748; CLIP, Radford et al. 2021, arXiv 2103.00020;
    several positives (mean outside the logarithm): Khosla et al. 2020, arXiv 2004.11362.
    Raises ValueError for shapes that do not fit or label_smoothing outside [0, 1).
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}: give a number in [0, 1)")
    sides = records(rows, columns, positives, ignore, present)
    engine = dict(engine or {})
    shared = {"scale": jnp.asarray(scale, jnp.promote_types(jnp.float32, rows.dtype))}
    if label_smoothing:
        return _smoothed(*sides, shared, label_smoothing, symmetric, engine)
    sums = cross_entropy(_tile, *sides, shared, **engine)
    value, at_rows = _mean_cross_entropy(sums.row_lse, sums.row_target, sums.row_mass)
    if symmetric:
        value = (value + _mean_cross_entropy(sums.column_lse, sums.column_target, sums.column_mass)[0]) / 2
    return Loss(value, {"scale": shared["scale"], **at_rows})


def _tile(rows, columns, shared) -> Scores:
    positive, mask = relation(rows, columns)
    return Scores(_logits(rows, columns, shared), mask, positive)


def _logits(rows, columns, shared):
    dots = jnp.matmul(rows["embedding"], columns["embedding"].T, preferred_element_type=shared["scale"].dtype)
    return shared["scale"] * dots


def _mean_cross_entropy(lse, target, mass):
    """The mean over the examples that have a positive, and metrics of these."""
    has = mass > 0
    positive_logit = target / jnp.where(has, mass, 1)
    entropy = jnp.where(has, jnp.where(has, lse, 0) - positive_logit, 0)
    examples = jnp.maximum(has.sum(), 1)
    metrics = {
        "positive_logit": jnp.where(has, positive_logit, 0).sum() / examples,
        "positive_probability": jnp.where(has, jnp.exp(-entropy), 0).sum() / examples,
    }
    return entropy.sum() / examples, jax.lax.stop_gradient(metrics)


def _smoothed(rows, columns, shared, smoothing: float, symmetric: bool, engine) -> Loss:
    """Smoothed targets need the counts of each row and column before the sweep; these need no products.

    The weights of both directions go into one target matrix, so that one sweep serves both.
    """
    counts = cross_entropy(
        _count_tile, *({k: v for k, v in s.items() if k != "embedding"} for s in (rows, columns)), **engine
    )
    sums_of = (counts.row_mass, counts.row_lse), (counts.column_mass, counts.column_lse)
    sides, weights = [], []
    for record, (mass, lse), part in zip((rows, columns), sums_of, (0.5, 0.5) if symmetric else (1, 0)):
        has = mass > 0
        weight = part * has / jnp.maximum(has.sum(), 1)
        positive = (1 - smoothing) * weight / jnp.where(has, mass, 1)
        every = smoothing * weight * jnp.where(has, jnp.exp(-jnp.where(has, lse, 0)), 0)
        sides.append({**record, "positive": positive, "every": every})
        weights.append(weight)
    sums: Sums = cross_entropy(_smoothed_tile, *sides, shared, **engine)
    lse = (jnp.where(w > 0, s, 0) @ w for s, w in zip((sums.row_lse, sums.column_lse), weights))
    return Loss(sum(lse) - sums.row_target.sum(), {"scale": shared["scale"]})


def _count_tile(rows, columns, shared) -> Scores:
    positive, mask = relation(rows, columns)
    return Scores(jnp.zeros(positive.shape), mask, positive)


def _smoothed_tile(rows, columns, shared) -> Scores:
    positive, mask = relation(rows, columns)
    targets = positive * (rows["positive"][:, None] + columns["positive"][None, :])
    return Scores(
        _logits(rows, columns, shared), mask, targets + rows["every"][:, None] + columns["every"][None, :]
    )


@dataclass(frozen=True)
class SoftmaxContrastive(PairLoss):
    """`softmax_contrastive` of two branches, with a scale that is learned if `learn_scale`."""

    scale: float = 1 / 0.07
    scale_max: float | None = 100.0
    learn_scale: bool = True
    label_smoothing: float = 0.0
    symmetric: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing={self.label_smoothing}: give a number in [0, 1)")

    def init(self) -> dict[str, Array]:
        return {"log_scale": jnp.log(jnp.float32(self.scale))} if self.learn_scale else {}

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        pair, labels = self.arguments(embeddings, fields)
        scale = jnp.exp(params["log_scale"]) if self.learn_scale else self.scale
        smoothing, symmetric = self.label_smoothing, self.symmetric
        return softmax_contrastive(
            *pair, scale=scale, label_smoothing=smoothing, symmetric=symmetric, **labels
        )
