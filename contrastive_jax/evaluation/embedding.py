"""Embedding the records of a source in sharded batches, as evaluation sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax.branches import Graph
from contrastive_jax.data.examples import View, evaluate_view
from contrastive_jax.data.records import Source
from contrastive_jax.distributed.mesh import batch_shards, replicated
from contrastive_jax.distributed.rows import local_rows, place

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array, Float, PyTree


@dataclass(frozen=True)
class Listed:
    """A few records made on the spot, such as prompts, as a source."""

    name: str
    records: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.records[index]

    def column(self, name: str) -> list[Any]:
        return [record[name] for record in self.records]


class Embedder:
    """embed(branch, source, indices) -> [n, d]: the branch's embeddings, without training's randomness.

    `between` is called after every batch; what it raises ends the evaluation.
    """

    def __init__(
        self,
        graph: Graph,
        views: Mapping[str, View],
        params: PyTree,
        mesh: Mesh,
        batch_size: int,
        between: Callable[[], None] = lambda: None,
    ):
        self.graph, self.views, self.params, self.mesh, self.between = graph, views, params, mesh, between
        shards = batch_shards(mesh)
        self.batch_size = -(-batch_size // shards) * shards
        self._embed = {
            name: jax.jit(partial(_embed, graph, name), out_shardings=replicated(mesh))
            for name in graph.branches
        }

    def __call__(
        self, branch: str, source: Source, indices: Sequence[int] | None = None
    ) -> Float[np.ndarray, "n d"]:
        indices = range(len(source)) if indices is None else indices
        view = self.views[self.graph.branches[branch].view]
        parts = []
        for start in range(0, len(indices), self.batch_size):
            batch = indices[start : start + self.batch_size]
            rows = local_rows(self.mesh, self.batch_size)
            # What is missing of the last batch is filled up with its last example.
            wanted = np.minimum(rows, len(batch) - 1)
            examples = evaluate_view(source, view, [batch[row] for row in np.unique(wanted)])
            filled = examples[np.searchsorted(np.unique(wanted), wanted)]
            placed = place(self.mesh, self.batch_size, {"view": filled})["view"]
            embedded = self._embed[branch](self.params, placed)
            parts.append(np.asarray(embedded)[: len(batch)])
            self.between()
        return np.concatenate(parts)


def _embed(graph: Graph, name: str, params: PyTree, view: Array) -> Float[Array, "b d"]:
    encoded = graph.encode(params, name, view, train=False, key=None)
    return graph.finish(params, name, encoded, train=False, key=None)
