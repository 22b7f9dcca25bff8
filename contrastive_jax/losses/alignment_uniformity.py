"""Alignment and uniformity: the two things that contrastive losses do, each by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.pairs import equal, finite, guarded
from contrastive_jax.losses.wiring import Matrix, PlainLoss
from contrastive_jax.similarity import Dot, Scores, logsumexp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def alignment_uniformity(
    a: Float[Array, "B d"],
    b: Float[Array, "B d"],
    *,
    alpha: float = 2.0,
    t: Float[Array, ""] | float = 2.0,
    alignment: float = 1.0,
    uniformity: float = 1.0,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Views of one example near each other, examples spread over the sphere.

        L = alignment  mean_i |a_i - b_i|^alpha
          + uniformity 1/2 sum_{z = a, b} log mean_{i != j} exp(-t |z_i - z_j|^2)

    alignment and uniformity are the weights of the two; a batch of one has no uniformity, 0. a, b: two
    views, as a rule of unit length. engine: keywords of `similarity.logsumexp`. A number that is not finite
    makes the value +inf and every gradient 0. Metrics: `alignment` and `uniformity` without weights.

    Source: Wang and Isola 2020, arXiv 2005.10242. Raises ValueError for shapes that do not fit, and for an
    alpha or a t that is not positive.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"views have shapes {a.shape} and {b.shape}: give two of [B, d]")
    for name, number in (("alpha", alpha), ("t", t)):
        if isinstance(number, int | float) and not 0 < number < math.inf:
            raise ValueError(f"{name}={number}: give a positive number")
    (a, b, t), fine = finite(a, b, t)
    dtype = jnp.promote_types(jnp.float32, a.dtype)
    square = jnp.sum((a.astype(dtype) - b.astype(dtype)) ** 2, axis=-1)
    apart = square > 0  # |x|^alpha has no slope at 0, or an infinite one
    near = jnp.mean(jnp.where(apart, jnp.where(apart, square, 1) ** (alpha / 2), 0))
    spread = jnp.zeros((), dtype)
    if len(a) > 1:
        spread = sum(_uniformity(z, t.astype(dtype), engine or {}) for z in (a, b)) / 2
    metrics = jax.lax.stop_gradient({"alignment": near, "uniformity": spread})
    return Loss(guarded(alignment * near + uniformity * spread, fine), metrics)


def _uniformity(z: Float[Array, "B d"], t, engine) -> Float[Array, ""]:
    B = len(z)
    record = {
        "embedding": z,
        "square": jnp.sum(z.astype(t.dtype) ** 2, axis=-1),
        "position": jnp.arange(B, dtype=jnp.int32),
    }
    lse, _ = logsumexp(Dot(_scores, jnp.zeros_like), record, record, t, **engine)
    return jax.nn.logsumexp(lse) - jnp.log(jnp.asarray(B * (B - 1.0), t.dtype))


def _scores(dots, rows, columns, t) -> Scores:
    distances = rows["square"][:, None] + columns["square"][None, :] - 2 * dots
    return Scores(-t * distances, ~equal(rows, columns, "position"))


@dataclass(frozen=True, kw_only=True)
class AlignmentUniformity(PlainLoss):
    """`alignment_uniformity` of two branches; nothing is learned."""

    a: str
    b: str
    alpha: float = 2.0
    t: float = 2.0
    alignment: float = 1.0
    uniformity: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "t"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}={getattr(self, name)}: give a positive number")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.a, self.b

    @property
    def needs_others(self) -> bool:
        """Only for uniformity."""
        return self.uniformity > 0

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        return tuple(Matrix(batch_size, batch_size, name) for name in self.branches)

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        names = "alpha", "t", "alignment", "uniformity"
        pair = embeddings[self.a], embeddings[self.b]
        return alignment_uniformity(*pair, **{name: getattr(self, name) for name in names})
