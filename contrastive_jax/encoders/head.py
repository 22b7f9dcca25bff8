"""What all heads have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Array, Bool, Float, Key, PyTree


@dataclass(frozen=True)
class Head(ABC):
    """A stage on the embeddings of the whole batch: [B, D] and running statistics in, the same out.

    Args:
        train_only: whether evaluation leaves the head out.
    """

    train_only: bool = field(default=False, kw_only=True)

    @abstractmethod
    def init(self, key: Key[Array, ""], example: Any) -> PyTree[Float[Array, "..."]]:
        """New parameters; of the example only shape and type matter."""

    @abstractmethod
    def logical_axes(self, example: Any) -> PyTree[tuple[str | None, ...]]:
        """The tree of `init` with a tuple of logical axis names in place of each array."""

    @abstractmethod
    def apply(
        self,
        params: Any,
        x: Float[Array, "B D"],
        *,
        train: bool,
        key: Key[Array, "B"] | None,
        statistics: Mapping[str, Array] = {},
        turn: Bool[Array, ""] | bool = True,
    ) -> tuple[Float[Array, "B F"], dict[str, Array]]:
        """Transform embeddings in float32; the dictionary holds the statistics after this batch.

        x: all rows of the batch, wherever they lie. statistics: the running ones, as `statistics` makes
        them (or some of them; those that are missing are as at the start). Evaluation returns them as
        they are, and no gradient goes through what is returned. turn: whether this side of a pair has its
        turn, for heads that treat the sides differently; it may be traced.
        """

    def statistics(self, example: Any) -> dict[str, Array]:
        """The running statistics before the first batch; few heads have any."""
        return {}
