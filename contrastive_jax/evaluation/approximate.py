"""Approximate nearest neighbours for large sets: an HNSW graph, kept beside the embeddings.

Source: Malkov and Yashunin 2018, arXiv 1603.09320, as the library usearch builds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.inspection import spread
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.stored_search import over_blocks, recall, rows_of
from contrastive_jax.locking import held, partial_path, write_atomically
from contrastive_jax.named_files import open_regular, read_json

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embeddings import Embeddings

QUERIES, K = 1000, 10
_SECONDS, _BYTES_A_SECOND = 60, 1 << 24  # for another process to load a graph


class Approximate:
    """The graph of an embeddings file: built when it is not there or is of other embeddings.

    `recall` is the mean share of the 10 exact nearest (of other records) by what is stored that it finds,
    over 1000 of the records, evenly spread, measured when it was built.

    Raises:
        InputError: usearch is not installed, or the graph cannot be written.
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
        same = there.get("of") == of and there.get("sha256") == _digest(self.path, of)
        self.built = not same or not _loads(self.path, len(stored), stored.dimensions)
        if self.built:
            with held(self.path, f"--approximate: {self.path}"):
                self._index = Index(
                    ndim=stored.dimensions, metric="ip", dtype="f32" if stored.dtype == "float32" else "f16"
                )
                for start, z in stored.blocks():
                    self._index.add(np.arange(start, start + len(z)), z)
                there = {"of": of, f"recall@{K}": self._measured(stored, mesh)}
                self._write(says, there)
        else:
            self._index = Index.restore(str(self.path))
        self.recall = there[f"recall@{K}"]

    def _write(self, says: Path, there: dict[str, Any]) -> None:
        partial = partial_path(self.path)
        try:
            self._index.save(str(partial))
            os.replace(partial, self.path)
            digest = _digest(self.path, there["of"])
            write_atomically(says, json.dumps(there | {"sha256": digest}).encode())
        except (OSError, RuntimeError) as error:  # the second is what usearch raises
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"--approximate: {self.path} cannot be written ({reason})") from error

    def nearest(
        self, queries: Float[np.ndarray, "n d"], k: int
    ) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
        """Scores (dot products) and rows of what it takes for each query's k best, best first."""
        found = self._index.search(np.asarray(queries, np.float32), min(k, len(self._index)))
        rows, distances = (np.asarray(x).reshape(len(queries), -1) for x in (found.keys, found.distances))
        # A graph may lead to fewer than k; what stands behind those is no answer.
        there = np.arange(rows.shape[1]) < np.reshape(getattr(found, "counts", rows.shape[1]), (-1, 1))
        return np.where(there, 1 - distances, -np.inf), np.where(there, rows.astype(np.int64), -1)

    def _measured(self, stored: Embeddings, mesh: Any) -> float:
        own = np.asarray(spread(len(stored), QUERIES))
        k = min(K, len(stored) - 1)
        if not k:
            return 1.0
        queries = rows_of(stored.blocks(), own)
        exact = over_blocks(stored.blocks(), queries, k, mesh, own)[1]
        found = self.nearest(queries, k + 1)[1]
        others = np.argsort(found == own[:, None], axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(found, others, axis=1)
        return round(recall(stored.blocks(), queries, exact, found), 6)


def _identity(stored: Embeddings) -> str:
    content = json.dumps([stored.metadata, stored.path.stat().st_size], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except InputError:
        return {}
    known = isinstance(content, dict) and isinstance(content.get(f"recall@{K}"), float)
    return content if known else {}


def _digest(file: Path, of: str) -> str | None:
    """The SHA-256 of what a graph is of and of its bytes."""
    if not file.exists():
        return None
    digest = hashlib.sha256(of.encode())
    with os.fdopen(open_regular(file), "rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


_TRY = """
import resource, sys
import numpy as np
from usearch.index import Index
path, size, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
index = Index.restore(path)
found = index.search(np.ones((1, index.ndim), np.float32), 10)
keys = np.asarray(found.keys)
sys.exit(len(index) != size or index.ndim != int(sys.argv[4]) or bool((keys >= size).any()))
"""
_SPARE = 4 << 30  # bytes of address space that an interpreter with its libraries takes


def _loads(file: Path, size: int, dimensions: int) -> bool:
    """Whether a graph can be loaded and asked: a damaged one takes the process with it, so another one tries.

    What has been written beside it says as much to who damages both.
    """
    most = 4 * file.stat().st_size + _SPARE
    line = [sys.executable, "-c", _TRY, file, size, most, dimensions]
    seconds = _SECONDS + file.stat().st_size / _BYTES_A_SECOND
    try:
        done = subprocess.run(
            list(map(str, line)), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
