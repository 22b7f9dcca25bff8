"""Supervised contrastive learning: all examples of a label are each other's positives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np

from contrastive_jax.losses.labels import ids
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.means import mean_cross_entropy
from contrastive_jax.losses.pairs import checked_scale, equal, finite, guarded, of_views
from contrastive_jax.losses.wiring import ViewsLoss
from contrastive_jax.similarity import Dot, Scores, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


def supervised_contrastive(
    z: Float[Array, "B d"] | Float[Array, "B V d"],
    labels: Int[Array, " B"],
    *,
    scale: Float[Array, ""] | float,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """SupCon, with the mean over positives outside the logarithm (L_out).

    With the N = B V views in one list, l_ij = scale <z_i, z_j> and P_i the others of the same label:

        L_i = log sum_{j != i} exp(l_ij) - mean_{j in P_i} l_ij

    and the value is the mean of L_i over the views that have a positive; 0 if none has. z: V views of
    each example (or one), as a rule of unit length. engine: keywords of `similarity.cross_entropy`.
    A number that is not finite in z makes the value +inf and every gradient 0.

    Source: Khosla et al. 2020, arXiv 2004.11362. Raises ValueError for shapes that do not fit and for a
    scale that is not positive.
    """
    if z.ndim not in (2, 3) or np.shape(labels) != z.shape[:1]:
        raise ValueError(
            f"z and labels have shapes {z.shape} and {np.shape(labels)}: give [B, d] or [B, V, d], and [B]"
        )
    views = z.shape[1] if z.ndim == 3 else 1
    (z, scale), fine = finite(z, checked_scale(scale))
    z = jnp.reshape(z, (-1, z.shape[-1]))
    record = {
        "embedding": z,
        "id": of_views(ids("labels", labels)[0], views),
        "position": jnp.arange(len(z), dtype=jnp.int32),
    }
    shared = {"scale": jnp.asarray(scale, jnp.promote_types(jnp.float32, z.dtype))}
    sums = cross_entropy(Dot(_scores, lambda s: s["scale"]), record, record, shared, **(engine or {}))
    value, metrics = mean_cross_entropy(sums.row_lse, sums.row_target, sums.row_mass)
    return Loss(guarded(value, fine), {"scale": shared["scale"], **metrics})


def _scores(dots, rows, columns, shared) -> Scores:
    others = ~equal(rows, columns, "position")
    return Scores(shared["scale"] * dots, others, equal(rows, columns, "id"))


@dataclass(frozen=True, kw_only=True)
class SupervisedContrastive(ViewsLoss):
    """`supervised_contrastive` of one branch or more; labels: a batch field."""

    labels: str
    scale: float = 10.0
    scale_max: float | None = 100.0

    fewest: ClassVar[int] = 1

    @property
    def one_kind(self) -> str:
        return self.labels

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.labels,)

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        """The logarithm of how many others a view is told from."""
        return math.log(max(self.matrices(batch_size, sizes)[0].columns - 1, 1))

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        views = self.stacked(embeddings)
        return supervised_contrastive(views, fields[self.labels], scale=self.scale_of(params))
