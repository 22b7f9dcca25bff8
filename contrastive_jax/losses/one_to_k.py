"""1-to-K: a picture against its texts in K languages at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp

from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.means import mean_cross_entropy
from contrastive_jax.losses.pairs import checked_scale, equal, finite, guarded, of_views
from contrastive_jax.losses.wiring import Matrix, ViewsLoss, all_views
from contrastive_jax.similarity import Dot, Scores, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def one_to_k(
    images: Float[Array, "B d"],
    texts: Float[Array, "B K d"],
    *,
    scale: Float[Array, ""] | float,
    divide_texts: bool = False,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """The mean of two cross-entropies, in which all K texts of an image are its positives.

        images:  1/B sum_i [ log sum_{jk} exp(l_ijk) - 1/K sum_k l_iik ],   l_ijk = scale <image_i, text_jk>
        texts:   1/BK sum_jk [ log sum_i exp(l_ijk) - l_jjk ]

    For K = 1 it is CLIP's loss, and the order of the languages means nothing. divide_texts: the second
    term once more divided by K, as the authors' code does. images, texts: as a rule of unit length.
    engine: keywords of `similarity.cross_entropy`. A number that is not finite in an embedding makes the
    value +inf and every gradient 0.

    Source: CCRK, Nie et al. 2024, arXiv 2406.18254. Raises ValueError for shapes that do not fit and for
    a scale that is not positive.
    """
    if images.ndim != 2 or texts.ndim != 3 or texts.shape[::2] != images.shape:
        raise ValueError(f"images {images.shape} and texts {texts.shape}: give [B, d] and [B, K, d]")
    (images, texts, scale), fine = finite(images, texts, checked_scale(scale))
    K, number = texts.shape[1], jnp.arange(len(images), dtype=jnp.int32)
    rows = {"embedding": images, "id": number}
    columns = {"embedding": jnp.reshape(texts, (-1, texts.shape[-1])), "id": of_views(number, K)}
    shared = {"scale": jnp.asarray(scale, jnp.promote_types(jnp.float32, images.dtype))}
    sums = cross_entropy(Dot(_scores, lambda s: s["scale"]), rows, columns, shared, **(engine or {}))
    of_images, metrics = mean_cross_entropy(sums.row_lse, sums.row_target, sums.row_mass)
    of_texts, _ = mean_cross_entropy(sums.column_lse, sums.column_target, sums.column_mass)
    value = (of_images + of_texts / (K if divide_texts else 1)) / 2
    return Loss(guarded(value, fine), {"scale": shared["scale"], **metrics})


def _scores(dots, rows, columns, shared) -> Scores:
    return Scores(shared["scale"] * dots, targets=equal(rows, columns, "id"))


@dataclass(frozen=True, kw_only=True)
class OneToK(ViewsLoss):
    """`one_to_k` of a branch `image` and the branches `views`, one a language or one for several."""

    image: str
    scale: float = 1 / 0.07
    scale_max: float | None = 1000.0
    divide_texts: bool = False

    fewest: ClassVar[int] = 1

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.image, *self.views)

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        return (all_views(self.views, batch_size, sizes)[0]._replace(rows=batch_size, branch=self.image),)

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        texts = self.matrices(batch_size, sizes)[0].columns
        share = batch_size / texts if self.divide_texts else 1
        return (math.log(texts) + share * math.log(batch_size)) / 2

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        scale, texts = self.scale_of(params), self.stacked(embeddings)
        return one_to_k(embeddings[self.image], texts, scale=scale, divide_texts=self.divide_texts)
