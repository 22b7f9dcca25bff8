"""Approximate nearest neighbours for large sets: an HNSW graph, kept beside the embeddings.

Source: Malkov and Yashunin 2018, arXiv 1603.09320, as the library usearch builds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.inspection import spread
from contrastive_jax.errors import CommandError, InputError, kind_of
from contrastive_jax.evaluation.stored_search import over_blocks, recall, rows_of
from contrastive_jax.locking import held, partial_path, write_atomically
from contrastive_jax.named_files import open_regular, read_json

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from contrastive_jax.evaluation.embeddings import Embeddings

QUERIES, K = 1000, 10
_SECONDS, _BYTES_A_SECOND = 60, 1 << 24  # for another process to load a graph


class Approximate:
    """The graph of an embeddings file: built when it is not there, is of other embeddings, or is damaged.

    A graph that is there is only ever read by another process, whose end it may be; that it is damaged can
    show with a question. `built` says whether the graph is one of this process.

    `recall` is the mean share of the 10 exact nearest (of other records) by what is stored that it finds,
    over 1000 of the records, evenly spread, measured when it was built.

    Raises:
        InputError: usearch is not installed, or the graph cannot be written.
        CommandError: another process builds it, or the disk is full.
    """

    def __init__(self, stored: Embeddings, mesh: Any) -> None:
        try:
            import usearch.index  # noqa: F401
        except ImportError as error:
            raise InputError(f"--approximate: {error}; pip install 'contrastive-jax[search]'") from error
        self.path = stored.path.with_name(f"{stored.path.name}.usearch")
        self._stored, self._mesh, self._index = stored, mesh, None
        of = _identity(stored)
        there = _read(self._says)
        if there.get("of") == of and there.get("sha256") == _digest(self.path, of):
            self.recall = there[f"recall@{K}"]
        else:
            self._build()

    @property
    def built(self) -> bool:
        return self._index is not None

    @property
    def _says(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def nearest(
        self, queries: Float[np.ndarray, "n d"], k: int
    ) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
        """Scores (dot products) and rows of what it takes for each query's k best, best first.

        Raises as the class does: a graph that turns out to be damaged is built anew.
        """
        queries, k = np.asarray(queries, np.float32), min(k, len(self._stored))
        if not self.built:
            if (answer := _asked(self.path, len(self._stored), queries, k)) is not None:
                return answer
            self._build()
        found = self._index.search(queries, k)
        return _answer(len(queries), found.keys, found.distances, getattr(found, "counts", None))

    def _build(self) -> None:
        from usearch.index import Index

        stored = self._stored
        with held(self.path, f"--approximate: {self.path}"):
            self._index = Index(
                ndim=stored.dimensions, metric="ip", dtype="f32" if stored.dtype == "float32" else "f16"
            )
            for start, z in stored.blocks():
                self._index.add(np.arange(start, start + len(z)), z)
            self.recall = self._measured(stored, self._mesh)
            self._write({"of": _identity(stored), f"recall@{K}": self.recall})

    def _write(self, there: dict[str, Any]) -> None:
        partial = partial_path(self.path)
        try:
            partial.open("wb").close()  # usearch does not say why it cannot
            self._index.save(str(partial))
            os.replace(partial, self.path)
            digest = _digest(self.path, there["of"])
            write_atomically(self._says, json.dumps(there | {"sha256": digest}).encode())
        except (OSError, RuntimeError) as error:  # the second is usearch's, of a disk that takes no more
            with contextlib.suppress(OSError):
                partial.unlink()
            kind = kind_of(error) if isinstance(error, OSError) else CommandError
            reason = getattr(error, "strerror", None) or error
            raise kind(f"--approximate: {self.path} cannot be written ({reason})") from error

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


def _answer(n: int, keys: Any, distances: Any, counts: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """(scores, rows), both [n, k], of what usearch found; its `counts` [n] are how many are answers."""
    rows, distances = (np.asarray(x).reshape(n, -1) for x in (keys, distances))
    # A graph may lead to fewer than k; what stands behind those is no answer.
    counts = np.full(n, rows.shape[1]) if counts is None else counts
    there = np.arange(rows.shape[1]) < np.reshape(counts, (-1, 1))
    return np.where(there, 1 - distances, -np.inf), np.where(there, rows, -1).astype(np.int64)


_ASK = """
import resource, sys
import numpy as np
from usearch.index import Index
path, size, dimensions, k, most = sys.argv[1], *map(int, sys.argv[2:])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
index = Index.restore(path)
if (len(index), index.ndim) != (size, dimensions):
    sys.exit(1)
queries = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(-1, dimensions)
found = index.search(queries, k)
n = len(queries)
keys, distances = (np.reshape(x, (n, -1)) for x in (found.keys, found.distances))
counts = getattr(found, "counts", np.full(n, keys.shape[1]))
sys.stdout.buffer.write(np.column_stack([counts, keys, distances]).astype(np.float64).tobytes())
"""
_SPARE = 4 << 30  # bytes of address space that an interpreter with its libraries takes


def _asked(
    file: Path, size: int, queries: Float[np.ndarray, "n d"], k: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """What a graph answers, by another process, which a damaged one takes with it; None of a damaged one.

    What has been written beside it says nothing to who damages both.
    """
    n, dimensions = queries.shape
    most = 4 * file.stat().st_size + _SPARE
    line = [sys.executable, "-c", _ASK, file, size, dimensions, k, most]
    seconds = _SECONDS + file.stat().st_size / _BYTES_A_SECOND
    try:
        done = subprocess.run(
            list(map(str, line)), input=queries.tobytes(), capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return None
    numbers = np.frombuffer(done.stdout if done.returncode == 0 else b"", np.uint8)
    if not numbers.size or numbers.size % (8 * n) or not (width := numbers.size // (8 * n)) % 2:
        return None
    table = numbers.view(np.float64).reshape(n, width)
    keys, distances = np.split(table[:, 1:], 2, axis=1)
    there = np.arange(keys.shape[1]) < table[:, :1]
    sound = (keys >= 0) & (keys < size) & np.isfinite(distances)
    if not there.any(axis=1).all() or not sound[there].all():
        return None
    return _answer(n, keys, distances.astype(np.float32), table[:, 0])
