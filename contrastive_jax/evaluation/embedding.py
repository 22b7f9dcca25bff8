"""Embedding the records of a source in sharded batches, as evaluation sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax.branches import Graph, named, unit_length
from contrastive_jax.data.examples import View, evaluate_view
from contrastive_jax.data.records import BrokenRecord, Source
from contrastive_jax.distributed.mesh import batch_shards, replicated
from contrastive_jax.distributed.rows import local_rows, place
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jaxtyping import Array, Float, PyTree


KEPT_BYTES = 2**30  # of embeddings that an embedder remembers


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True)
class Shown:
    """The records of a source as a view sees them that reads the field `under`: there stands what the
    record has in `field`, and there is no other field."""

    source: Source
    field: str
    under: str

    @property
    def name(self) -> str:
        return self.source.name

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        record = self.source[index]
        if self.field not in record:
            raise BrokenRecord(f"it has no field {self.field!r}")
        return {self.under: record[self.field]}

    def column(self, name: str) -> Sequence[Any]:
        return self.source.column(self.field if name == self.under else name)


class Embedder:
    """embed(branch, source, indices) -> [n, d]: the branch's embeddings, without training's randomness.

    A branch is named as in the config, or `branch.stage`: `branch.encoder` is what its encoder gives before
    any head, `branch.HEAD` what that head of its gives; unit length where the branch is. `@64` behind any of
    them takes the first 64 numbers, again of unit length where the branch is.

    `between` is called after every batch; what it raises ends the evaluation. With `remember` the same
    records of the same source (the very object) are embedded by a branch once, up to KEPT_BYTES of them.
    """

    def __init__(
        self,
        graph: Graph,
        views: Mapping[str, View],
        params: PyTree,
        mesh: Mesh,
        batch_size: int,
        between: Callable[[], None] = lambda: None,
        remember: bool = False,
    ):
        self.graph, self.views, self.params, self.mesh, self.between = graph, views, params, mesh, between
        shards = batch_shards(mesh)
        self.batch_size = -(-batch_size // shards) * shards
        self.remember = remember
        self._kept: dict[Any, np.ndarray] = {}
        self._programs: dict[str, Callable] = {}

    def __call__(
        self, branch: str, source: Source, indices: Sequence[int] | None = None
    ) -> Float[np.ndarray, "n d"]:
        indices = range(len(source)) if indices is None else indices
        key = branch, source, np.asarray(indices, np.int64).tobytes() if self.remember else b""
        return self._remembered(key, lambda: self._embedded(branch, source, indices))

    def view(self, branch: str) -> View:
        """The view that a branch reads, or that a stage of it does."""
        return self.views[self.graph.branches[staged(self.graph, branch)[0]].view]

    def texts(self, branch: str, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """The embeddings of texts that stand in no source."""
        field = self.view(branch).field
        listed = Listed("texts", [{field: text} for text in texts])
        key = branch, tuple(texts) if self.remember else ()
        return self._remembered(key, lambda: self._embedded(branch, listed, range(len(listed))))

    def _remembered(self, key: Any, embedded: Callable[[], np.ndarray]) -> np.ndarray:
        if not self.remember:
            return embedded()
        if key in self._kept:
            return self._kept[key]
        found = embedded()
        if sum(z.nbytes for z in self._kept.values()) + found.nbytes <= KEPT_BYTES:
            self._kept[key] = found
        return found

    def _embedded(self, branch: str, source: Source, indices: Sequence[int]) -> Float[np.ndarray, "n d"]:
        view, program, parts = self.view(branch), self._program(branch), []
        for start in range(0, len(indices), self.batch_size):
            batch = indices[start : start + self.batch_size]
            rows = local_rows(self.mesh, self.batch_size)
            # What is missing of the last batch is filled up with its last example.
            wanted = np.minimum(rows, len(batch) - 1)
            examples = evaluate_view(source, view, [batch[row] for row in np.unique(wanted)])
            filled = examples[np.searchsorted(np.unique(wanted), wanted)]
            placed = place(self.mesh, self.batch_size, {"view": filled})["view"]
            parts.append(np.asarray(program(self.params, placed))[: len(batch)])
            self.between()
        return np.concatenate(parts)

    def _program(self, branch: str) -> Callable:
        if branch not in self._programs:
            stage = partial(_embed, self.graph, *staged(self.graph, branch))
            self._programs[branch] = jax.jit(stage, out_shardings=replicated(self.mesh))
        return self._programs[branch]


def staged(graph: Graph, name: str) -> tuple[str, str, int | None]:
    """(branch, branch or `branch.stage`, the numbers that are taken of it or None) of a name.

    Raises InputError for a name that is neither a branch nor a stage of one, or takes what is not there.
    """
    stage, at, size = name.partition("@")
    branch = named(graph, stage)
    if not at:
        return branch, stage, None
    width = graph.width(stage, train=False)
    if not size.isdecimal() or not 1 <= int(size) <= width:
        raise InputError(f"{name}: {stage} has {width} numbers; write {stage}@N with N from 1 to {width}")
    return branch, stage, int(size)


def staged_width(graph: Graph, name: str) -> int:
    """The size of the embeddings that a name stands for; see `staged`."""
    _, stage, size = staged(graph, name)
    return size or graph.width(stage, train=False)


def _embed(
    graph: Graph, branch: str, stage: str, size: int | None, model: PyTree, view: Array
) -> Float[Array, "b d"]:
    encoded = graph.encode(model, branch, view, train=False, key=None)
    z = graph.finish(model, stage, encoded, train=False, key=None)[..., :size]
    return unit_length(z) if size and graph.branches[branch].normalize else z
