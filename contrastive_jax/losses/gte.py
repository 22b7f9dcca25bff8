"""The losses of GTE and GISTEmbed: all queries and documents of a batch are each other's negatives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.guides import ROUNDING, false_negative
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.means import mean_cross_entropy
from contrastive_jax.losses.negatives import further_columns
from contrastive_jax.losses.pairs import checked_scale, equal, finite, guarded, of_views
from contrastive_jax.losses.wiring import Matrix, ScaledLoss, all_views, several
from contrastive_jax.similarity import Dot, Scores, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive_jax.losses.negatives import Negatives


def gte_contrastive(
    queries: Float[Array, "B d"],
    documents: Float[Array, "B d"],
    *,
    scale: Float[Array, ""] | float,
    negatives: Negatives | tuple[Negatives, ...] | None = None,
    guide: tuple[Float[Array, "B g"], Float[Array, "B g"]] | None = None,
    guide_margin: float = 0.0,
    documents_to_queries: bool = True,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Each pair against everything that either half of it could be mistaken for.

        L_i = log Z_i - s <q_i, d_i>
        Z_i =   sum_j exp(s <q_i, d_j>) + sum_{j != i} exp(s <q_i, q_j>)
              + sum_{j != i} exp(s <d_i, q_j>) + sum_{j != i} exp(s <d_i, d_j>) + sum_n exp(s <q_i, n>)

    and the value is the mean over i. negatives: the n. documents_to_queries: whether the third sum is
    there. guide: another encoder's embeddings; a term that it finds closer than q_i and d_i, by
    `guide_margin`, is left out of Z_i, but for those of negatives. A text is never its own negative, be
    the guide's similarity of it to itself over the threshold or, where q_i = d_i, equal to it. With a
    guide and without the third sum it is GISTEmbed's loss.

    queries, documents: as a rule of unit length. engine: keywords of `similarity.cross_entropy`. A number
    that is not finite in an embedding makes the value +inf and every gradient 0.

    Sources: GTE, Li et al. 2023, arXiv 2308.03281; GISTEmbed, Solatorio 2024, arXiv 2402.16829. Raises
    ValueError for shapes that do not fit and for a scale that is not positive.
    """
    if queries.ndim != 2 or queries.shape != documents.shape:
        raise ValueError(f"queries {queries.shape} and documents {documents.shape}: give two of [B, d]")
    given = (queries, documents), checked_scale(scale), negatives, guide
    (pair, scale, negatives, guide), fine = finite(*given)
    B = len(queries)
    record = {
        "embedding": _beside(*pair),
        "id": of_views(jnp.arange(B, dtype=jnp.int32), 2),
        "document": jnp.reshape(jnp.broadcast_to(jnp.array([False, True]), (B, 2)), (-1,)),
    }
    if guide is not None:
        record |= _guided(guide, guide_margin, B)
    columns, extra = further_columns(record, negatives)
    shared = {"scale": jnp.asarray(scale, jnp.promote_types(jnp.float32, queries.dtype))}
    tile = Dot(partial(_scores, documents_to_queries), lambda s: s["scale"])
    sums = cross_entropy(tile, record, columns, shared, extra=extra or None, **(engine or {}))
    lse, target, mass = (jnp.reshape(x, (B, 2)) for x in (sums.row_lse, sums.row_target, sums.row_mass))
    value, metrics = mean_cross_entropy(jnp.logaddexp(lse[:, 0], lse[:, 1]), target[:, 0], mass[:, 0])
    return Loss(guarded(value, fine), {"scale": shared["scale"], **metrics})


def _scores(documents_to_queries: bool, dots, rows, columns, shared) -> Scores:
    """The pair itself stands in the row of its query; in that of its document it would stand twice."""
    same = equal(rows, columns, "id")
    from_document, to_document = rows["document"][:, None], columns["document"][None, :]
    itself, positive = same & (from_document == to_document), same & ~from_document & to_document
    mask = ~itself
    if "guide" in rows:
        mask &= positive | ~false_negative(rows, columns)
    if documents_to_queries:
        twice = from_document & same
        outside = twice | (from_document & columns["extra"][None, :]) if "extra" in columns else twice
    else:
        outside = from_document & ~to_document
    return Scores(shared["scale"] * dots, mask, positive, ~outside)


def _beside(a: Float[Array, "B d"], b: Float[Array, "B d"]) -> Float[Array, "2*B d"]:
    """Example by example, so that each stays on its device."""
    return jnp.reshape(jnp.stack([a, b], 1), (-1, a.shape[1]))


def _guided(guide, margin: float, B: int) -> dict[str, Array]:
    a, b = guide
    if a.ndim != 2 or a.shape != b.shape or len(a) != B:
        raise ValueError(f"the guide has shapes {a.shape} and {b.shape}: give two of [{B}, g]")
    dtype = jnp.promote_types(jnp.float32, a.dtype)
    threshold = jnp.sum(a.astype(dtype) * b.astype(dtype), -1) + margin + ROUNDING
    threshold = jnp.reshape(jnp.broadcast_to(threshold[:, None], (B, 2)), (-1,))
    return jax.lax.stop_gradient({"guide": _beside(a, b), "threshold": threshold})


@dataclass(frozen=True, kw_only=True)
class GTEContrastive(ScaledLoss):
    """`gte_contrastive` of two branches. guide: two more; negatives: branches of hard negatives, each with
    one or several an example.
    """

    queries: str
    documents: str
    negatives: str | tuple[str, ...] | None = None
    guide: tuple[str, ...] | None = None
    guide_margin: float = 0.0
    documents_to_queries: bool = True
    scale: float = 100.0
    scale_max: float | None = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guide is not None and len(self.guide) != 2:
            raise InputError(f"guide={self.guide}: name two branches, the queries' guide and the documents'")

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.queries, self.documents, *(self.guide or ()), *several(self.negatives))

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        found = all_views((self.queries, self.documents), batch_size)
        for name in several(self.negatives):
            found += (Matrix(batch_size, sizes.get(name, batch_size), self.queries),)
        if self.guide:
            found += (all_views(self.guide, batch_size)[0]._replace(sides=0),)
        return found

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        others = (2 + self.documents_to_queries) * (batch_size - 1)
        further = sum(sizes.get(name, batch_size) for name in several(self.negatives))
        return None if self.guide else math.log(batch_size + others + further)

    def pairing(self, embeddings: Mapping, fields: Mapping) -> tuple[Array, Array, None] | None:
        return embeddings[self.queries], embeddings[self.documents], None

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        return gte_contrastive(
            embeddings[self.queries],
            embeddings[self.documents],
            scale=self.scale_of(params),
            negatives=tuple(embeddings[name] for name in several(self.negatives)),
            guide=tuple(embeddings[name] for name in self.guide) if self.guide else None,
            guide_margin=self.guide_margin,
            documents_to_queries=self.documents_to_queries,
        )
