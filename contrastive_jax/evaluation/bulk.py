"""Embedding many records: read ahead by threads, those that cannot be read left out."""

from __future__ import annotations

import collections
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.faults import naming
from contrastive_jax.data.records import BrokenRecord, Source
from contrastive_jax.evaluation.embedding import Embedder, Listed
from contrastive_jax.evaluation.embeddings import Part
from contrastive_jax.written import encodable

if TYPE_CHECKING:
    import jax

    from contrastive_jax.data.examples import View

_log = logging.getLogger(__name__)
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Ready:
    """A view of examples that another view has made already."""

    view: View
    member: int = 0

    def structure(self) -> jax.ShapeDtypeStruct:
        return self.view.structure()

    def __call__(self, record: dict[str, Any], rng: np.random.Generator, train: bool) -> np.ndarray:
        return record["example"]


class Bulk:
    """embeds a branch of `embed` for many records of a source.

    between: called after every batch; what it raises ends the embedding.
    """

    def __init__(self, embed: Embedder, branch: str, source: Source, between: Callable[[int], None]) -> None:
        self.branch, self.source, self.between = branch, source, between
        self.view = embed.view(branch)
        views = {name: Ready(view) for name, view in embed.views.items()}
        self.embed = Embedder(embed.graph, views, embed.params, embed.mesh, embed.batch_size)
        self._pool = ThreadPoolExecutor(thread_name_prefix="read")

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, indices: Sequence[int]) -> tuple[Part, list[tuple[int, str]]]:
        """The records with these indices that can be read, and (record, why) of those that cannot, each of
        which is logged with its key."""
        keys, records, parts, broken = [], [], [], []
        for batch in self._batches(indices):
            good = [(key, index, example) for key, index, example, why in batch if why is None]
            for key, index, _, why in batch:
                if why is not None:
                    _log.warning("left out: record %d (%s) of %s: %s", index, key, self.source.name, why)
                    broken.append((index, why))
            if good:
                listed = Listed("examples", [{"example": example} for _, _, example in good])
                parts.append(self.embed(self.branch, listed))
                keys += [key for key, _, _ in good]
                records += [index for _, index, _ in good]
            self.between(len(batch))
        embeddings = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
        return Part(keys, np.array(records, np.int64), np.asarray(embeddings, np.float32)), broken

    def _batches(
        self, indices: Sequence[int]
    ) -> Iterator[list[tuple[str, int, np.ndarray | None, str | None]]]:
        remaining = iter(indices)
        ahead: collections.deque[list[Future]] = collections.deque()
        try:
            while True:
                while len(ahead) < _BATCHES_AHEAD:
                    batch = itertools.islice(remaining, self.embed.batch_size)
                    if not (futures := [self._pool.submit(self._read, int(index)) for index in batch]):
                        break
                    ahead.append(futures)
                if not ahead:
                    return
                yield [future.result() for future in ahead.popleft()]
        finally:
            for future in itertools.chain(*ahead):
                future.cancel()

    def _read(self, index: int) -> tuple[str, int, np.ndarray | None, str | None]:
        unused = np.random.Generator(np.random.Philox(0))
        key = str(index)
        try:
            with naming(self.source.name, [index]):
                record = self.source[index]
            key = encodable(str(record.get("key", index)))
            return key, index, self.view(record, unused, False), None
        except BrokenRecord as error:
            return self._key(index, key), index, None, str(error)
        except KeyError as error:
            return key, index, None, f"it has no field {error}"

    def _key(self, index: int, known: str) -> str:
        try:
            return encodable(str(self.source.column("key")[index]))
        except (KeyError, IndexError):
            return known
