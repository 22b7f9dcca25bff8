"""How a config wires losses to branches and batch fields, and what their parameters are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import jax.numpy as jnp

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Array

    from contrastive_jax.losses.pairs import Labels


class Matrix(NamedTuple):
    """A matrix of similarities that a loss is made of: what there is to compute, however it is swept.

    rows, columns: of the whole batch; branch: whose embeddings' width its products have; sides: how many of
    the two want a gradient, each of which is as much work as the matrix: 1 for a memory, 0 for a guide.
    """

    rows: int
    columns: int
    branch: str
    sides: int = 2


@dataclass(frozen=True, kw_only=True)
class PlainLoss:
    """What all losses share; those that learn nothing and compare no pairs need no more.

    fewest: examples of a record that `views` must give in all; widths: numbers that every embedding has at
    least; mixed_branch: the one whose partners and share it reads; guide: branches that are compared with
    each other alone; negatives: branches that give an example negatives of its own.
    """

    weight: float = 1.0

    fewest: ClassVar[int] = 0
    widths: ClassVar[int] = 0
    mixed_branch: ClassVar[str | None] = None
    guide: ClassVar[tuple[str, ...] | None] = None
    negatives: ClassVar[str | tuple[str, ...] | None] = None

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise InputError(f"weight={self.weight}: give 0 or more")

    @property
    def fields(self) -> tuple[str, ...]:
        return ()

    @property
    def memories(self) -> tuple[str, ...]:
        return ()

    @property
    def compared(self) -> tuple[tuple[str, ...], ...]:
        """Its branches by groups, in each of which embeddings are compared, and so have one width; the first
        group is compared with the memories as well."""
        guide, others = self.guide or (), list(self.branches)
        for name in guide:
            others.remove(name)
        return tuple(others), tuple(guide)

    @property
    def grouped(self) -> tuple[str, ...]:
        """The branches that may give several embeddings an example."""
        return several(self.negatives)

    @property
    def one_kind(self) -> str | None:
        """The batch field whose equal values are positives of each other; None for examples alone."""
        return None

    @property
    def needs_others(self) -> bool:
        """Whether the other examples of a batch are all that an example is told apart from."""
        return not (self.memories or self.negatives)

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        return ()

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        return None

    def pairing(self, embeddings: Mapping, fields: Mapping) -> tuple[Array, Array, Labels] | None:
        return None

    def init(self) -> dict[str, Array]:
        return {}

    def project(self, params: dict[str, Array]) -> dict[str, Array]:
        return params


@dataclass(frozen=True, kw_only=True)
class ScaledLoss(PlainLoss):
    """What losses with a scale share.

    scale: the factor of the logits at the start, learned if `learn_scale`; scale_max: its bound, None for
    none. The bound is a projection after each update: a clip in the forward pass would leave the scale
    stuck beyond it.
    """

    scale: float = 1.0
    scale_max: float | None = None
    learn_scale: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0:
            raise InputError(f"scale={self.scale}: give a positive number")
        if self.scale_max is not None and self.scale > self.scale_max:
            raise InputError(f"scale={self.scale} is over scale_max={self.scale_max}: lower it or raise that")

    def init(self) -> dict[str, Array]:
        return {"log_scale": jnp.log(jnp.float32(self.scale))} if self.learn_scale else {}

    def project(self, params: dict[str, Array]) -> dict[str, Array]:
        if self.scale_max is None or "log_scale" not in params:
            return params
        return {**params, "log_scale": jnp.minimum(params["log_scale"], jnp.log(jnp.float32(self.scale_max)))}

    def scale_of(self, params: dict[str, Array]) -> Array | float:
        return jnp.exp(params["log_scale"]) if self.learn_scale else self.scale


@dataclass(frozen=True, kw_only=True)
class PlainPairLoss(PlainLoss):
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
    def one_kind(self) -> str | None:
        kinds = set(several(self.positives))
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def fields(self) -> tuple[str, ...]:
        return (*several(self.positives), *several(self.ignore))

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        return (Matrix(batch_size, batch_size, self.rows),)

    def arguments(self, embeddings: Mapping[str, Array], fields: Mapping[str, Array]) -> tuple[tuple, dict]:
        """The embeddings, and the labels by keyword, that the loss function takes."""
        labels = {
            key: fields[wired] if isinstance(wired, str) else tuple(fields[name] for name in wired)
            for key, wired in (("positives", self.positives), ("ignore", self.ignore))
            if wired
        }
        return (embeddings[self.rows], embeddings[self.columns]), labels

    def pairing(self, embeddings: Mapping, fields: Mapping) -> tuple[Array, Array, Labels] | None:
        pair, labels = self.arguments(embeddings, fields)
        return (*pair, labels.get("positives")) if all(z.ndim == 2 for z in pair) else None


@dataclass(frozen=True, kw_only=True)
class PairLoss(PlainPairLoss, ScaledLoss):
    """The same with a scale."""


@dataclass(frozen=True, kw_only=True)
class PlainViewsLoss(PlainLoss):
    """What losses of several views of one example share. views: the branches that give them, one or several
    each; fewest: so many views there must be in all."""

    views: tuple[str, ...]

    fewest: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.views:
            raise InputError("views=(): name at least one branch")

    @property
    def branches(self) -> tuple[str, ...]:
        return tuple(self.views)

    @property
    def grouped(self) -> tuple[str, ...]:
        return tuple(self.views)

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        """All views of all examples against each other."""
        return all_views(self.views, batch_size, sizes)

    def stacked(self, embeddings: Mapping[str, Array]) -> Array:
        """[B, K, d], the branches' embeddings of each example beside each other.

        A branch gives one an example, [B, d], or several, [B, k, d]. Raises InputError for too few in all.
        """
        each = (embeddings[view] for view in self.views)
        z = jnp.concatenate([z[:, None] if z.ndim == 2 else z for z in each], axis=1)
        if z.shape[1] < self.fewest:
            raise InputError(
                f"views={self.views} give {z.shape[1]} of an example: give {self.fewest} or more"
            )
        return z


@dataclass(frozen=True, kw_only=True)
class ViewsLoss(PlainViewsLoss, ScaledLoss):
    """The same with a scale."""


def all_views(views: tuple[str, ...], batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
    """The one matrix of all views of all examples against each other."""
    side = sum(sizes.get(view, batch_size) for view in views)
    return (Matrix(side, side, views[0]),)


def several(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of what is given as none, one or several."""
    return (names,) if isinstance(names, str) else tuple(names or ())
