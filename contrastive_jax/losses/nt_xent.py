"""NT-Xent, SimCLR's loss: two views of each example among the views of all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.supervised import supervised_contrastive
from contrastive_jax.losses.wiring import ViewsLoss

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def nt_xent(
    a: Float[Array, "B d"],
    b: Float[Array, "B d"],
    *,
    scale: Float[Array, ""] | float,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Cross-entropy of each of 2B views against the 2B - 1 others; the other view of it is wanted.

        L = 1/2B sum_i ( log sum_{j != i} exp(scale <z_i, z_j>) - scale <z_i, z_twin(i)> )

    that is, supervised contrastive learning with a label an example: a view is not its own negative.
    a, b: the two views, as a rule of unit length; the rest as in `supervised_contrastive`.

    Source: SimCLR, Chen et al. 2020, arXiv 2002.05709. Raises ValueError for shapes that do not fit.
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"views have shapes {a.shape} and {b.shape}: give two of [B, d]")
    return supervised_contrastive(jnp.stack([a, b], 1), jnp.arange(len(a)), scale=scale, engine=engine)


@dataclass(frozen=True, kw_only=True)
class NTXent(ViewsLoss):
    """`nt_xent` of two branches."""

    scale: float = 10.0
    scale_max: float | None = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.views) != 2:
            raise InputError(f"views={self.views}: name two branches")

    @property
    def grouped(self) -> tuple[str, ...]:
        return ()

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        """The logarithm of how many others a view is told from."""
        return math.log(max(self.matrices(batch_size, sizes)[0].columns - 1, 1))

    def pairing(self, embeddings: Mapping, fields: Mapping) -> tuple[Array, Array, None] | None:
        a, b = (embeddings[view] for view in self.views)
        return (a, b, None) if a.ndim == b.ndim == 2 else None

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        return nt_xent(*(embeddings[view] for view in self.views), scale=self.scale_of(params))
