"""Contrastive attraction and repulsion: positives among positives, negatives among negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.pairs import checked_scale, equal, finite, guarded, of_views
from contrastive_jax.losses.wiring import PlainViewsLoss
from contrastive_jax.similarity import Dot, Weighted, expectation

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def attraction_repulsion(
    z: Float[Array, "B K d"],
    *,
    t_plus: Float[Array, ""] | float = 1.0,
    t_minus: Float[Array, ""] | float = 2.0,
    weights_gradient: bool = True,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Far positives are pulled more than near ones, near negatives pushed more than far ones.

    With D(u, v) = |u - v|^2, every view of every example is a query q:

        attraction_q =   sum_p softmax_p( t_plus  D(q, p)) D(q, p)   over the K - 1 other views of q's example
        repulsion_q  = - sum_n softmax_n(-t_minus D(q, n)) D(q, n)   over all views of the other examples

    and the value is the mean over queries of the sum of the two. One example has no negatives, and its
    repulsion is 0; one view has no attraction.

    z: K views of B examples, as a rule of unit length; then the weights of the negatives are those of
    InfoNCE at scale 2 t_minus. weights_gradient: whether the softmax weights are differentiated as well
    (the authors' small-scale code) or only the distances (their code with a queue). engine: keywords of
    `similarity.expectation`. Metrics: `attraction` and `repulsion`. A number that is not finite in z
    makes the value +inf and every gradient 0.

    Source: CACR, Zheng et al. 2021, arXiv 2105.03746; there the negatives of a query are one view of each
    other example, here all of them. Raises ValueError for shapes that do not fit and for a t_plus or
    t_minus that is not positive.
    """
    if z.ndim != 3:
        raise ValueError(f"z has shape {z.shape}: give [B, K, d], K views of each example")
    (z, t_plus, t_minus), fine = finite(z, checked_scale(t_plus), checked_scale(t_minus))
    dtype = jnp.promote_types(jnp.float32, z.dtype)
    attraction = _attraction(z.astype(dtype), jnp.asarray(t_plus, dtype), weights_gradient).mean()
    B, K, d = z.shape
    flat = jnp.reshape(z, (B * K, d))
    record = {
        "embedding": flat,
        "square": jnp.sum(flat.astype(dtype) ** 2, -1),
        "id": of_views(jnp.arange(B, dtype=jnp.int32), K),
    }
    shared = {"t_minus": jnp.asarray(t_minus, dtype)}
    away = expectation(
        Dot(_distances), record, record, shared, weights_gradient=weights_gradient, **(engine or {})
    )
    metrics = jax.lax.stop_gradient({"attraction": attraction, "repulsion": -away.mean()})
    return Loss(guarded(attraction - away.mean(), fine), metrics)


def _attraction(z, t_plus, weights_gradient: bool) -> Float[Array, "B K"]:
    """Within each example, so dense: [B, K, K]."""
    K = z.shape[1]
    distances = jnp.sum((z[:, :, None] - z[:, None, :]) ** 2, -1)
    others = ~jnp.eye(K, dtype=bool)
    weights = jax.nn.softmax(jnp.where(others, t_plus * distances, -1e30), axis=-1)
    weights = jnp.where(others, weights, 0)
    return jnp.sum((weights if weights_gradient else jax.lax.stop_gradient(weights)) * distances, -1)


def _distances(dots, rows, columns, shared) -> Weighted:
    distances = rows["square"][:, None] + columns["square"][None, :] - 2 * dots
    return Weighted(-shared["t_minus"] * distances, distances, ~equal(rows, columns, "id"))


@dataclass(frozen=True, kw_only=True)
class AttractionRepulsion(PlainViewsLoss):
    """`attraction_repulsion` of views of one example, from one branch or more; nothing is learned."""

    t_plus: float = 1.0
    t_minus: float = 2.0
    weights_gradient: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("t_plus", "t_minus"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}={getattr(self, name)}: give a positive number")

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        names = "t_plus", "t_minus", "weights_gradient"
        return attraction_repulsion(self.stacked(embeddings), **{name: getattr(self, name) for name in names})
