"""Matryoshka: one loss on the first coordinates of embeddings, at several widths at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import jax

from contrastive_jax.configuration import Kind
from contrastive_jax.errors import InputError
from contrastive_jax.losses.kinds import KINDS
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.negatives import Memory
from contrastive_jax.losses.regression import direction
from contrastive_jax.losses.wiring import Matrix, PlainLoss

if TYPE_CHECKING:
    from jaxtyping import Array

    from contrastive_jax.losses.pairs import Labels


@dataclass(frozen=True, kw_only=True)
class Matryoshka(PlainLoss):
    """L = sum_k weights_k loss(first dims_k coordinates of every embedding), for any loss of this table.

    dims: widths, such as (64, 256, 768); weights: of each, () for 1; normalize: to unit length again after
    the cut. What the loss learns (a scale) is shared by all widths. Memories are cut as well, and so are
    the embeddings of a guide.

    Metrics: those of the loss at the largest width, and `loss_DIM` for each.

    Source: Kusupati et al. 2022, arXiv 2205.13147.
    """

    dims: tuple[int, ...]
    loss: Annotated[dict, Kind(KINDS)]
    weights: tuple[float, ...] = ()
    normalize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dims or min(self.dims) < 1 or len(set(self.dims)) < len(self.dims):
            raise InputError(f"dims={self.dims}: name one width or more, each once and at least 1")
        if self.weights and (len(self.weights) != len(self.dims) or min(self.weights) < 0):
            raise InputError(
                f"weights={self.weights} beside dims={self.dims}: give a weight of 0 or more for each, or ()"
            )
        if self.loss.weight != 1:
            raise InputError(f"loss.weight={self.loss.weight}: give the weight of the whole, weight, instead")

    @property
    def widths(self) -> int:
        """The width that every embedding has at least."""
        return max(self.dims)

    @property
    def branches(self) -> tuple[str, ...]:
        return self.loss.branches

    @property
    def compared(self) -> tuple[tuple[str, ...], ...]:
        """Nothing: whatever is wider than `dims` is cut to them."""
        return ()

    @property
    def grouped(self) -> tuple[str, ...]:
        return self.loss.grouped

    @property
    def one_kind(self) -> str | None:
        """That of the loss, None where it has none."""
        return self.loss.one_kind

    @property
    def needs_others(self) -> bool:
        """Whether the loss does."""
        return self.loss.needs_others

    @property
    def memories(self) -> tuple[str, ...]:
        return self.loss.memories

    @property
    def fields(self) -> tuple[str, ...]:
        return self.loss.fields

    @property
    def mixed_branch(self) -> str | None:
        """That of the loss, None where it has none."""
        return self.loss.mixed_branch

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        """Those of the loss, as often as there are widths; they are counted as if no width were cut."""
        return self.loss.matrices(batch_size, sizes) * len(self.dims)

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        value = self.loss.at_chance(batch_size, sizes)
        return value and value * sum(self.weights or (1.0,) * len(self.dims))

    def pairing(self, embeddings: Mapping, fields: Mapping) -> tuple[Array, Array, Labels] | None:
        """That of the loss, at all widths: those of the whole embeddings."""
        return self.loss.pairing(embeddings, fields)

    def init(self) -> dict[str, Array]:
        return self.loss.init()

    def project(self, params: dict[str, Array]) -> dict[str, Array]:
        return self.loss.project(params)

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        read = {name: embeddings[name] for name in (*self.branches, *self.memories)}
        for name, z in read.items():
            width = (z.embeddings if isinstance(z, Memory) else z).shape[-1]
            if width < self.widths:
                raise InputError(f"dims={self.dims}: {name!r} is only {width} wide; take smaller ones")
        each = {dim: self.loss(params, self._cut(read, dim), fields) for dim in self.dims}
        weights = self.weights or (1.0,) * len(self.dims)
        value = sum(weight * loss.value for weight, loss in zip(weights, each.values()))
        values = {f"loss_{dim}": jax.lax.stop_gradient(loss.value) for dim, loss in each.items()}
        return Loss(value, each[self.widths].metrics | values)

    def _cut(self, embeddings: Mapping[str, Any], dim: int) -> dict[str, Any]:
        def cut(z):
            if isinstance(z, Memory):
                return z._replace(embeddings=cut(z.embeddings))
            return direction(z[..., :dim]) if self.normalize else z[..., :dim]

        return {name: cut(z) for name, z in embeddings.items()}
