"""Nearest neighbours by blocks: never a matrix of queries times corpus."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from contrastive_jax.distributed.rows import place_everywhere
from contrastive_jax.losses.labels import ids
from contrastive_jax.similarity import Scores, top_k

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Shaped


def nearest_neighbours(
    queries: Float[np.ndarray, "n d"], corpus: Float[np.ndarray, "m d"], k: int, mesh: Any
) -> Int[np.ndarray, "n k"]:
    """The k rows of the corpus with the largest dot product, best first."""
    return search(queries, corpus, k, mesh)[1]


def search(
    queries: Float[np.ndarray, "n d"],
    corpus: Float[np.ndarray, "m d"],
    k: int,
    mesh: Any,
    *,
    metric: str = "dot",
    apart: tuple[Shaped[np.ndarray, " n"], Shaped[np.ndarray, " m"]] | None = None,
    within: tuple[Shaped[np.ndarray, " n"], Shaped[np.ndarray, " m"]] | None = None,
) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """Scores and rows of each query's k best of the corpus, best first.

    metric: the score, q . c (dot) or -|q - c|^2 (euclidean). apart: whole numbers of the queries and of the
    corpus; a row with the query's own number is no answer. within: likewise, and only a row with the
    query's own number is one. Where fewer than k are left, the score is -inf and the row -1.
    """
    rows, columns = _side(queries, metric), _side(corpus, metric)
    for name, numbers in (("apart", apart), ("within", within)):
        if numbers is not None:
            rows[name], columns[name] = ids(name, *numbers)
    with jax.set_mesh(mesh):
        placed = place_everywhere(mesh, (rows, columns))
        scores, indices = _search(*placed, min(k, len(corpus)))
    return np.asarray(scores), np.asarray(indices)


def _side(z: Float[np.ndarray, "n d"], metric: str) -> dict[str, np.ndarray]:
    z = np.asarray(z, np.float32)
    return {"z": z} | ({"square": np.sum(z * z, axis=1)} if metric == "euclidean" else {})


def dots(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """All with all in full float32: accelerators would round the factors, and near ones change places."""
    return jnp.matmul(a, b.T, precision="highest")


def shared_out() -> dict[str, Any]:
    """The engine's keywords for arrays that lie on every device: all share the work, whatever the axes."""
    return {"axes": jax.sharding.get_abstract_mesh().axis_names, "spread": None}


@partial(jax.jit, static_argnums=2)
def _search(rows, columns, k):
    best = top_k(_scores, rows, columns, k=k, **shared_out())
    return jax.lax.with_sharding_constraint(best, (PartitionSpec(), PartitionSpec()))


def _scores(rows, columns, shared):
    scores = dots(rows["z"], columns["z"])
    if "square" in rows:
        scores = 2 * scores - rows["square"][:, None] - columns["square"][None, :]
    mask = None
    if "apart" in rows:
        mask = rows["apart"][:, None] != columns["apart"][None, :]
    if "within" in rows:
        same = rows["within"][:, None] == columns["within"][None, :]
        mask = same if mask is None else mask & same
    return scores if mask is None else Scores(scores, mask)
