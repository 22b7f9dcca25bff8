"""Embedding the records of a source in sharded batches, as evaluation sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax.branches import Graph
from contrastive_jax.data.pipeline import View, evaluate_view
from contrastive_jax.data.records import Source
from contrastive_jax.distributed.mesh import batch_shards, by_example, replicated

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
            examples = evaluate_view(source, view, indices[start : start + self.batch_size])
            missing = self.batch_size - len(examples)
            filled = np.concatenate([examples, np.repeat(examples[-1:], missing, axis=0)])
            placed = jax.device_put(filled, by_example(self.mesh))
            embedded = self._embed[branch](self.params, placed)
            parts.append(np.asarray(embedded)[: len(examples)])
            self.between()
        return np.concatenate(parts)


def _embed(graph: Graph, name: str, params: PyTree, view: Array) -> Float[Array, "b d"]:
    encoded = graph.encode(params, name, view, train=False, key=None)
    return graph.finish(params, name, encoded, train=False, key=None)
