"""How a config wires losses to branches and batch fields, and what their parameters are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax.numpy as jnp

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Array


class Matrix(NamedTuple):
    """A matrix of similarities that a loss is made of: what there is to compute, however it is swept.

    rows, columns: of the whole batch; branch: whose embeddings' width its products have; differentiated:
    whether a gradient goes through it.
    """

    rows: int
    columns: int
    branch: str
    differentiated: bool = True


@dataclass(frozen=True, kw_only=True)
class ScaledLoss:
    """What losses with a scale share.

    scale: the factor of the logits at the start, learned if `learn_scale`; scale_max: its bound, None for
    none. The bound is a projection after each update: a clip in the forward pass would leave the scale
    stuck beyond it.
    """

    scale: float = 1.0
    scale_max: float | None = None
    learn_scale: bool = True
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise InputError(f"scale={self.scale}: give a positive number")
        if self.scale_max is not None and self.scale > self.scale_max:
            raise InputError(f"scale={self.scale} is over scale_max={self.scale_max}: lower it or raise that")

    @property
    def fields(self) -> tuple[str, ...]:
        return ()

    def init(self) -> dict[str, Array]:
        return {"log_scale": jnp.log(jnp.float32(self.scale))} if self.learn_scale else {}

    def project(self, params: dict[str, Array]) -> dict[str, Array]:
        if self.scale_max is None or "log_scale" not in params:
            return params
        return {**params, "log_scale": jnp.minimum(params["log_scale"], jnp.log(jnp.float32(self.scale_max)))}

    def scale_of(self, params: dict[str, Array]) -> Array | float:
        return jnp.exp(params["log_scale"]) if self.learn_scale else self.scale


@dataclass(frozen=True, kw_only=True)
class PairLoss(ScaledLoss):
    """What losses of two branches share.

    rows, columns: branches. positives, ignore: a batch field, or one of the rows' and one of the columns'.
    """

    rows: str
    columns: str
    positives: str | tuple[str, str] | None = None
    ignore: str | tuple[str, str] | None = None

    @property
    def branches(self) -> tuple[str, ...]:
        return self.rows, self.columns

    @property
    def fields(self) -> tuple[str, ...]:
        wired = [(one,) if isinstance(one, str) else one or () for one in (self.positives, self.ignore)]
        return tuple(name for names in wired for name in names)

    def matrices(self, batch_size: int) -> tuple[Matrix, ...]:
        return (Matrix(batch_size, batch_size, self.rows),)

    def arguments(self, embeddings: Mapping[str, Array], fields: Mapping[str, Array]) -> tuple[tuple, dict]:
        """The embeddings, and the labels by keyword, that the loss function takes."""
        labels = {
            key: fields[wired] if isinstance(wired, str) else tuple(fields[name] for name in wired)
            for key, wired in (("positives", self.positives), ("ignore", self.ignore))
            if wired
        }
        return (embeddings[self.rows], embeddings[self.columns]), labels


@dataclass(frozen=True, kw_only=True)
class ViewsLoss(ScaledLoss):
    """What losses of several branches of one example share. views: the branches."""

    views: tuple[str, ...]

    fewest: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.views) < self.fewest:
            raise InputError(f"views={self.views}: name at least {self.fewest}")

    @property
    def branches(self) -> tuple[str, ...]:
        return tuple(self.views)

    def matrices(self, batch_size: int) -> tuple[Matrix, ...]:
        """All views of all examples against each other."""
        return all_views(self.views, batch_size)

    def stacked(self, embeddings: Mapping[str, Array]) -> Array:
        """[B, K, d], the branches' embeddings of each example beside each other."""
        return jnp.stack([embeddings[view] for view in self.views], axis=1)


def all_views(views: tuple[str, ...], batch_size: int) -> tuple[Matrix]:
    """The one matrix of all views of all examples against each other."""
    side = len(views) * batch_size
    return (Matrix(side, side, views[0]),)
