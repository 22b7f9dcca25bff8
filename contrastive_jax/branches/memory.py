"""Memories: embeddings of earlier steps, kept beside the parameters for losses to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.negatives import Memory

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Key, PyTree

STARTS = ("random", "empty")


@dataclass(frozen=True)
class Queue:
    """The embeddings of a branch in the last steps, first in, first out.

    A step's embeddings are written after its losses have read, so none is its own negative. With labels there
    is a queue a label (a language, a modality), each with a place of its own.

    branch: a branch or `branch.stage`; size: embeddings kept (of each label), for one queue a multiple of
    what a step writes; start: `random` unit vectors, as MoCo and Contriever, or `empty`, growing to its size;
    labels: the batch field, 0 to number - 1, that says which queue an example belongs to; of others nothing
    is kept.

    Sources: He et al. 2019, arXiv 1911.05722; by language: Wu et al. 2022, arXiv 2206.03281.
    """

    branch: str
    size: int = 4096
    start: str = "random"
    labels: str | None = None
    number: int = 1

    def __post_init__(self) -> None:
        for name in ("size", "number"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: give 1 or more")
        if self.start not in STARTS:
            raise InputError(f"start={self.start}: give one of {', '.join(STARTS)}")
        if self.number > 1 and self.labels is None:
            raise InputError(
                f"number={self.number} queues want labels=: name the batch field that tells them"
            )
        if self.number < 2 and self.labels is not None:
            raise InputError(
                f"labels={self.labels} of number={self.number} queue: give their number, 2 or more"
            )

    @property
    def fields(self) -> tuple[str, ...]:
        """The batch fields that writing reads."""
        return (self.labels,) if self.labels else ()

    @property
    def columns(self) -> int:
        """Embeddings in all queues together."""
        return self.number * self.size

    def check_division(self, name: str, written: int, shards: int) -> None:
        """InputError for one queue that `written` embeddings a step do not fill evenly, or for queues that do
        not divide over `shards` devices."""
        if self.columns % shards:
            raise InputError(
                f"config.memory.{name}.size={self.size}: {self.columns} embeddings do not divide over "
                f"{shards} devices; give a multiple of {shards}"
            )
        if self.labels is None and self.size % written:
            raise InputError(
                f"config.memory.{name}.size={self.size} is no multiple of the {written} embeddings that a "
                f"step writes (config.batch_size): give one, such as {-(-self.size // written) * written}"
            )

    def init(self, key: Key[Array, ""], width: int) -> PyTree:
        """The queues before the first step; `next` is the place that is written next."""
        shape, empty = (self.columns, width), self.start == "empty"
        rows = jnp.zeros(shape) if empty else jax.random.normal(key, shape)
        rows /= jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)
        state = {"embeddings": rows, "next": jnp.zeros((self.number,), jnp.int32)}
        return {**state, "filled": jnp.zeros((self.columns,), bool)} if empty else state

    def logical_axes(self) -> PyTree:
        """The tree of `init` with logical axis names: embeddings lie as a batch does."""
        axes = {"embeddings": ("batch", None), "next": (None,)}
        return {**axes, "filled": ("batch",)} if self.start == "empty" else axes

    def read(self, state: PyTree) -> Memory:
        """What losses see."""
        labels = jnp.arange(self.columns, dtype=jnp.int32) // self.size if self.labels else None
        return Memory(state["embeddings"], state.get("filled"), labels)

    def write(self, state: PyTree, z: Float[Array, "B *K d"], labels: Int[Array, " B"] | None) -> PyTree:
        """The queues after a step: the oldest give place to z, in the order of the batch."""
        z = jax.lax.stop_gradient(jnp.reshape(z, (-1, z.shape[-1])))
        if labels is None:
            places = (state["next"][0] + jnp.arange(len(z))) % self.size
            following = (state["next"] + len(z)) % self.size
        else:
            labels = jnp.repeat(labels, len(z) // len(labels))
            places, following = self._places(state["next"], labels)
        new = {
            "embeddings": state["embeddings"].at[places].set(z.astype(jnp.float32), mode="drop"),
            "next": following.astype(jnp.int32),
        }
        if "filled" in state:
            new["filled"] = state["filled"].at[places].set(True, mode="drop")
        return new

    def _places(self, following: Int[Array, " L"], labels: Int[Array, " B"]) -> tuple[Array, Array]:
        """Where each example goes, beyond the end for those that are not kept; and the next places."""
        own = labels[:, None] == jnp.arange(self.number)
        earlier = jnp.cumsum(own, axis=0) - own
        counts = own.sum(0)
        known = (labels >= 0) & (labels < self.number)
        label = jnp.where(known, labels, 0)
        rank = jnp.take_along_axis(earlier, label[:, None], axis=1)[:, 0]
        kept = known & (counts[label] - rank <= self.size)
        places = label * self.size + (following[label] + rank) % self.size
        return jnp.where(kept, places, self.columns), (following + counts) % self.size
