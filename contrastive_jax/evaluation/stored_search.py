"""Nearest neighbours among embeddings in a file, block by block; and what fewer bytes cost of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.evaluation.nearest import search
from contrastive_jax.evaluation.quantization import signs

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embeddings import Embeddings

Blocks = Iterable[tuple[int, "Float[np.ndarray, 'b d']"]]  # (first row, embeddings)
RESCORED = 4  # times k: candidates by bits that are compared again


def nearest(
    stored: Embeddings,
    queries: Float[np.ndarray, "n d"],
    k: int,
    mesh: Any,
    own: Int[np.ndarray, " n"] | None = None,
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """Scores and rows of each query's k best (fewer in a smaller file), best first.

    The score is the dot product with what is stored. Of bits, 4 k candidates by their Hamming distance from
    the query's bits are scored so, by q . (+-1) / sqrt(d). own: a row that is no answer to a query.
    """
    if stored.dtype != "binary":
        return over_blocks(stored.blocks(), queries, k, mesh, own)
    _, found = over_blocks(stored.blocks(), signs(queries > 0), RESCORED * k, mesh, own)
    return _best(scores_of(stored.blocks(), queries, found), found, min(k, found.shape[1]))


def scores_of(
    blocks: Blocks, queries: Float[np.ndarray, "n d"], rows: Int[np.ndarray, "n k"]
) -> Float[np.ndarray, "n k"]:
    """The scores of these rows, -inf for the row -1."""
    scores = np.full(rows.shape, -np.inf, np.float32)
    for start, z in blocks:
        query, place = np.nonzero((rows >= start) & (rows < start + len(z)))
        scores[query, place] = np.einsum("nd,nd->n", queries[query], z[rows[query, place] - start])
    return scores


def rows_of(blocks: Blocks, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """The embeddings of these rows."""
    found: dict[int, np.ndarray] = {}
    for start, z in blocks:
        inside = rows[(rows >= start) & (rows < start + len(z))].tolist()
        found |= {row: z[row - start] for row in inside}
    return np.stack([found[row] for row in rows.tolist()])


def over_blocks(
    blocks: Blocks,
    queries: Float[np.ndarray, "n d"],
    k: int,
    mesh: Any,
    own: Int[np.ndarray, " n"] | None = None,
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """`search` of a corpus that comes in blocks, (first row, embeddings); rows without an answer are -1."""
    best: tuple[np.ndarray, np.ndarray] | None = None
    for start, z in blocks:
        apart = None if own is None else (own, np.arange(start, start + len(z)))
        scores, rows = search(queries, z, k, mesh, apart=apart)
        rows = np.where(rows < 0, -1, rows + start)
        if best is not None:
            scores, rows = (np.concatenate(pair, axis=1) for pair in zip(best, (scores, rows)))
        best = _best(scores, rows, min(k, scores.shape[1]))
    assert best is not None
    return best


def _best(scores: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def recall(
    blocks: Blocks,
    queries: Float[np.ndarray, "n d"],
    exact: Int[np.ndarray, "n k"],
    found: Int[np.ndarray, "n k"],
) -> float:
    """The share of what was found that is as near as the last of the exact k nearest, the mean over the
    queries: of several records that are alike any one will do.

    blocks: the embeddings that `exact` is by.
    """
    scores = scores_of(blocks, queries, np.concatenate([exact, found], axis=1))
    k = exact.shape[1]
    return float(np.mean(scores[:, k:] >= scores[:, :k].min(axis=1, keepdims=True)) * found.shape[1] / k)
