"""Momentum contrast: each query has its own key to find among those of earlier batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.negatives import Memory, with_labels
from contrastive_jax.losses.pairs import checked_scale, finite, guarded
from contrastive_jax.losses.wiring import Matrix, ScaledLoss, several
from contrastive_jax.similarity import Dot, Scores, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def momentum_contrast(
    queries: Float[Array, "B d"],
    keys: Float[Array, "B d"],
    memory: Memory | Float[Array, "N d"],
    *,
    scale: Float[Array, ""] | float,
    memory_labels: Int[Array, " B"] | None = None,
    label_smoothing: float = 0.0,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Cross-entropy of a query's own key among it and a memory; the batch's other keys are no negatives.

        L_i = log(exp(p_i) + sum_{n in M_i} exp(scale <queries_i, n>)) - p_i
        p_i = scale <queries_i, keys_i>

    and the value is the mean over i; 0 for a query that sees no memory. M_i is what is filled of it, and, if
    memory_labels are given, of the query's label. Neither keys nor memory have a gradient.
    label_smoothing: e of the target spread evenly over the key and M_i.

    queries, keys: as a rule of unit length (MoCo), or as they are (Contriever). engine: keywords of
    `similarity.cross_entropy`; each device keeps a share of the memory, wherever it lay. A number that is
    not finite in a query, a key or what is filled makes the value +inf and every gradient 0. Metrics:
    `scale`, `positive_logit` and `positive_probability`, means over the queries.

    Sources: MoCo, He et al. 2019, arXiv 1911.05722; Contriever, Izacard et al. 2021, arXiv 2112.09118; by
    label: Wu et al. 2022, arXiv 2206.03281. Raises ValueError for shapes that do not fit and for numbers
    out of their range.
    """
    memory = Memory.of(memory)
    N, d = memory.embeddings.shape if memory.embeddings.ndim == 2 else (0, 0)
    if queries.ndim != 2 or queries.shape != keys.shape or queries.shape[1] != d:
        raise ValueError(
            f"queries {queries.shape}, keys {keys.shape} and memory {memory.embeddings.shape}: give two of "
            "[B, d], and [N, d]"
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}: give a number in [0, 1)")
    memory, memory_labels = with_labels(memory, memory_labels, len(queries))
    given = queries, jax.lax.stop_gradient(keys), memory.embeddings, checked_scale(scale)
    (queries, keys, remembered, scale), fine = finite(*given)
    dtype = jnp.promote_types(jnp.float32, queries.dtype)
    scale = jnp.asarray(scale, dtype)
    rows = {"embedding": queries}
    columns = {"embedding": remembered.astype(queries.dtype), "there": jnp.ones(N, bool)}
    if memory.filled is not None:
        columns["there"] = memory.filled
    if memory_labels is not None:
        rows["label"], columns["label"] = memory_labels, memory.labels
    tile = Dot(partial(_scores, label_smoothing > 0), lambda scale: scale)
    sums = cross_entropy(tile, rows, columns, scale, **(engine or {}))
    positive = scale * jnp.sum(queries.astype(dtype) * keys.astype(dtype), axis=-1)
    return _mean(sums, positive, scale, label_smoothing, fine)


def _mean(sums, positive, scale, smoothing: float, fine) -> Loss:
    sees = ~jnp.isneginf(sums.row_lse)
    entropy = jnp.where(sees, jax.nn.softplus(jnp.where(sees, sums.row_lse, 0) - positive), 0)
    smooth = smoothing * (positive - (positive + sums.row_target) / (1 + sums.row_mass))
    metrics = {
        "scale": scale,
        "positive_logit": positive.mean(),
        "positive_probability": jnp.exp(-entropy).mean(),
    }
    return Loss(guarded(jnp.mean(entropy + smooth), fine), jax.lax.stop_gradient(metrics))


def _scores(smooths: bool, dots, rows, columns, scale) -> Scores:
    there = jnp.broadcast_to(columns["there"][None, :], dots.shape)
    if "label" in rows:
        there &= rows["label"][:, None] == columns["label"][None, :]
    return Scores(scale * dots, there, there if smooths else None)


@dataclass(frozen=True, kw_only=True)
class MomentumContrast(ScaledLoss):
    """`momentum_contrast` of two branches and a memory; the scale is not learned, unless asked.

    keys: as a rule a teacher's branch, whose embeddings of earlier steps the memory holds.
    """

    queries: str
    keys: str
    memory: str
    memory_labels: str | None = None
    scale: float = 5.0
    learn_scale: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing={self.label_smoothing}: give a number in [0, 1)")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.queries, self.keys

    @property
    def memories(self) -> tuple[str, ...]:
        return (self.memory,)

    @property
    def fields(self) -> tuple[str, ...]:
        return several(self.memory_labels)

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        return (Matrix(batch_size, sizes.get(self.memory, 0), self.queries, sides=1),)

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        """The logarithm of a query's own key and the memory, once that is filled with the same."""
        return None if self.memory_labels else math.log(1 + sizes.get(self.memory, 0))

    def pairing(self, embeddings: Mapping, fields: Mapping) -> tuple[Array, Array, None] | None:
        queries, keys = embeddings[self.queries], embeddings[self.keys]
        return (queries, keys, None) if queries.ndim == 2 else None

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        return momentum_contrast(
            embeddings[self.queries],
            embeddings[self.keys],
            embeddings[self.memory],
            scale=self.scale_of(params),
            memory_labels=fields[self.memory_labels] if self.memory_labels else None,
            label_smoothing=self.label_smoothing,
        )
