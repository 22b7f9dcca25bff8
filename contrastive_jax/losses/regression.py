"""Cosine regression: predictions of one view of an example meet the embedding of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp

from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.pairs import finite, guarded
from contrastive_jax.losses.wiring import PlainLoss

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def cosine_regression(predictions: Float[Array, "B d"], targets: Float[Array, "B d"]) -> Loss:
    """How far predictions are from targets in angle; nothing tells examples apart.

        L = mean_i (2 - 2 cos(predictions_i, targets_i)),   from 0 to 4

    Targets have no gradient: whoever gives the targets of the other direction calls it a second time. It is
    the squared distance of unit vectors (BYOL); SimSiam's -cos is L / 2 - 1. Vectors may be of any length,
    which the cosine does not see; one of length 0 has cosine 0. A number that is not finite makes the value
    +inf and every gradient 0. Metrics: `cosine`, the mean.

    Sources: BYOL, Grill et al. 2020, arXiv 2006.07733; SimSiam, Chen and He 2020, arXiv 2011.10566. Raises
    ValueError for shapes that do not fit.
    """
    if predictions.ndim != 2 or predictions.shape != targets.shape:
        raise ValueError(f"predictions {predictions.shape} and targets {targets.shape}: give two of [B, d]")
    (predictions, targets), fine = finite(predictions, jax.lax.stop_gradient(targets))
    cosine = jnp.mean(jnp.sum(direction(predictions) * direction(targets), axis=-1))
    return Loss(guarded(2 - 2 * cosine, fine), {"cosine": jax.lax.stop_gradient(cosine)})


def direction(z: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """z / |z| in float32 or wider; 0, with a gradient of 0, where z is 0."""
    z = z.astype(jnp.promote_types(jnp.float32, z.dtype))
    square = jnp.sum(z * z, axis=-1, keepdims=True)
    there = square > 0
    return jnp.where(there, z * jax.lax.rsqrt(jnp.where(there, square, 1)), 0)


@dataclass(frozen=True, kw_only=True)
class CosineRegression(PlainLoss):
    """`cosine_regression` of two branches, in one direction; nothing is learned."""

    predictions: str
    targets: str

    needs_others: ClassVar[bool] = False

    @property
    def branches(self) -> tuple[str, ...]:
        return self.predictions, self.targets

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        return cosine_regression(embeddings[self.predictions], embeddings[self.targets])
