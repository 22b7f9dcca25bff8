"""Late interaction: texts as tables of token vectors, each token of a query with its best match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.means import mean_cross_entropy
from contrastive_jax.losses.pairs import aligned_ids, attach_ids, checked_scale, finite, guarded, relation
from contrastive_jax.similarity import Scores, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

    from contrastive_jax.losses.pairs import Labels


def late_interaction(
    queries: Float[Array, "Q T d"],
    documents: Float[Array, "D S d"],
    *,
    query_mask: Bool[Array, "Q T"] | None = None,
    document_mask: Bool[Array, "D S"] | None = None,
    scale: Float[Array, ""] | float = 1.0,
    positives: Labels = None,
    ignore: Labels = None,
    symmetric: bool = False,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Cross-entropy of each query against the documents, on the sum of its tokens' best matches.

        l_ij = scale sum_{t in query i} max_{s in document j} <queries_it, documents_js>

    over the tokens that the masks name (None: all). The value is the mean over the queries that have a
    positive; if `symmetric`, the mean of that and of the same for the documents. A query or document
    without any token takes no part: it is nobody's negative, and skipped as a row. A number that is not
    finite in a token that counts makes the value +inf and every gradient 0.

    queries, documents: token vectors, as a rule of unit length. positives, ignore: ids as in
    `softmax_contrastive`. engine: keywords of `similarity.cross_entropy`.

    Source: ColBERT, Khattab and Zaharia 2020, arXiv 2004.12832. Raises ValueError for shapes that do not
    fit and for a scale that is not positive.
    """
    if queries.ndim != 3 or documents.ndim != 3 or queries.shape[2] != documents.shape[2]:
        raise ValueError(
            f"queries {queries.shape} and documents {documents.shape}: give two of [n, tokens, d]"
        )
    masks = [
        jnp.ones(z.shape[:2], bool) if mask is None else mask
        for z, mask in ((queries, query_mask), (documents, document_mask))
    ]
    for z, mask in zip((queries, documents), masks):
        if mask.shape != z.shape[:2]:
            raise ValueError(f"a token mask has shape {mask.shape} beside tokens {z.shape}")
    tokens = [jnp.where(m[..., None], z, 0) for z, m in zip((queries, documents), masks)]
    (*tokens, scale), fine = finite(*tokens, checked_scale(scale))
    sides = tuple({"embedding": z, "token": m, "present": m.any(1)} for z, m in zip(tokens, masks))
    positives = aligned_ids(len(queries), len(documents)) if positives is None else positives
    attach_ids(sides, "id", "positives", positives)
    attach_ids(sides, "ignore", "ignore", ignore)
    shared = {"scale": jnp.asarray(scale, jnp.promote_types(jnp.float32, queries.dtype))}
    sums = cross_entropy(_tile, *sides, shared, **(engine or {}))
    value, metrics = mean_cross_entropy(sums.row_lse, sums.row_target, sums.row_mass)
    if symmetric:
        of_columns = sums.column_lse, sums.column_target, sums.column_mass
        value = (value + mean_cross_entropy(*of_columns)[0]) / 2
    return Loss(guarded(value, fine), {"scale": shared["scale"], **metrics})


def _tile(rows, columns, shared) -> Scores:
    positive, mask = relation(rows, columns)
    r, T, d = rows["embedding"].shape
    dtype = shared["scale"].dtype
    dots = jax.lax.dot_general(
        rows["embedding"].reshape(r * T, d),
        columns["embedding"],
        (((1,), (2,)), ((), ())),
        preferred_element_type=dtype,
    )  # [r T, c, S]
    best = jnp.where(columns["token"][None], dots, jnp.finfo(dtype).min).max(2).reshape(r, T, -1)
    score = jnp.where(rows["token"][:, :, None] & columns["present"][None, None], best, 0).sum(1)
    return Scores(shared["scale"] * score, mask, positive)
