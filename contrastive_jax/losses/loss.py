"""What every loss returns, and what it declares so that building a run can check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive_jax.losses.pairs import Labels
    from contrastive_jax.losses.wiring import Matrix


class Loss(NamedTuple):
    """value: the mean over the global batch; metrics: scalars worth a line in a log."""

    value: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]


class ConfiguredLoss(Protocol):
    """A loss as a config names it: wired to branches and batch fields, with parameters of its own."""

    weight: float

    @property
    def branches(self) -> tuple[str, ...]:
        """The named embeddings that it compares."""

    @property
    def compared(self) -> tuple[tuple[str, ...], ...]:
        """Its branches by groups, in each of which embeddings are compared, and so have one width; the first
        group is compared with the memories as well."""

    @property
    def grouped(self) -> tuple[str, ...]:
        """The branches that may give several embeddings an example."""

    @property
    def one_kind(self) -> str | None:
        """The batch field whose equal values are told from nothing, where it is one field; None for none."""

    @property
    def needs_others(self) -> bool:
        """Whether the others of its batch are all that an example is told apart from."""

    @property
    def memories(self) -> tuple[str, ...]:
        """The memories that it reads; each stands among the embeddings as a `Memory`."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The batch fields (labels, ids) that it reads."""

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        """The matrices of similarities that it needs of a batch; FLOPs are counted from them.

        sizes: how many vectors a memory holds, and a branch that gives several an example, by name.
        """

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        """Its value where all embeddings are the same vector, as those of a collapsed model; None where that
        is no number of its own. sizes: as in `matrices`.
        """

    def pairing(self, embeddings: Mapping, fields: Mapping) -> tuple[Array, Array, Labels] | None:
        """(rows, columns, positives) of the batch, of which `in_batch_accuracy` is worth a line; or None."""

    def init(self) -> dict[str, Array]:
        """Its own parameters, such as the logarithm of a learnable scale."""

    def project(self, params: dict[str, Array]) -> dict[str, Array]:
        """The parameters moved back within their bounds; applied after every update."""

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        """The loss of named embeddings, [B, D] or [B, K, D], and batch fields [B]."""
