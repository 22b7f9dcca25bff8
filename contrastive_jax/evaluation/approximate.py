"""Approximate nearest neighbours for large sets: an HNSW graph, kept beside the embeddings.

Source: Malkov and Yashunin 2018, arXiv 1603.09320, as the library usearch builds it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.inspection import spread
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.stored_search import over_blocks, recall

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embeddings import Embeddings

QUERIES, K = 1000, 10


class Approximate:
    """The graph of an embeddings file: built when it is not there or is of other embeddings.

    `recall` is the mean share of the 10 exact nearest by what is stored that it finds, over 1000 of the
    records, evenly spread, measured when it was built.

    Raises:
        InputError: usearch is not installed.
    """

    def __init__(self, stored: Embeddings, mesh: Any) -> None:
        try:
            from usearch.index import Index
        except ImportError as error:
            raise InputError(f"--approximate: {error}; pip install 'contrastive-jax[search]'") from error
        self.path = stored.path.with_name(f"{stored.path.name}.usearch")
        says = self.path.with_name(f"{self.path.name}.json")
        of = _identity(stored)
        there = _read(says)
        self.built = there.get("of") != of or there.get("sha256") != _digest(self.path)
        if self.built:
            index = Index(
                ndim=stored.dimensions, metric="ip", dtype="f32" if stored.dtype == "float32" else "f16"
            )
            for start, z in stored.blocks():
                index.add(np.arange(start, start + len(z)), z)
            partial = self.path.with_name(f".{self.path.name}.partial")
            index.save(str(partial))
            os.replace(partial, self.path)
            self._index = index
            there = {"of": of, "sha256": _digest(self.path), f"recall@{K}": self._measured(stored, mesh)}
            says.write_text(json.dumps(there), encoding="utf-8")
        else:
            self._index = Index.restore(str(self.path))
        self.recall = there[f"recall@{K}"]

    def nearest(
        self, queries: Float[np.ndarray, "n d"], k: int
    ) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
        """Scores (dot products) and rows of what it takes for each query's k best, best first."""
        found = self._index.search(np.asarray(queries, np.float32), min(k, len(self._index)))
        rows, distances = np.asarray(found.keys), np.asarray(found.distances)
        return (1 - distances).reshape(len(queries), -1), rows.astype(np.int64).reshape(len(queries), -1)

    def _measured(self, stored: Embeddings, mesh: Any) -> float:
        chosen = np.asarray(spread(len(stored), QUERIES))
        queries = np.zeros((len(chosen), stored.dimensions), np.float32)
        for start, z in stored.blocks():
            inside = (chosen >= start) & (chosen < start + len(z))
            queries[inside] = z[chosen[inside] - start]
        k = min(K, len(stored))
        exact = over_blocks(stored.blocks(), queries, k, mesh)[1]
        return round(recall(stored.blocks(), queries, exact, self.nearest(queries, k)[1]), 6)


def _identity(stored: Embeddings) -> str:
    content = json.dumps([stored.metadata, stored.path.stat().st_size], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and f"recall@{K}" in content else {}


def _digest(file: Path) -> str | None:
    if not file.exists():
        return None
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
