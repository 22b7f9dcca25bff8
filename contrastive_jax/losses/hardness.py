"""How hard negatives are, said outright: the hardest share of them, and a loss that weighs all alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.means import mean_cross_entropy
from contrastive_jax.losses.pairs import checked_scale, finite, guarded, records, relation
from contrastive_jax.losses.wiring import Matrix, PairLoss, PlainPairLoss
from contrastive_jax.similarity import Dot, Scores, Weighted, cross_entropy, expectation, top_k

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive_jax.losses.pairs import Labels

    Side = dict[str, Array]


def hard_contrastive(
    rows: Float[Array, "R d"],
    columns: Float[Array, "C d"],
    *,
    scale: Float[Array, ""] | float,
    fraction: float,
    positives: Labels = None,
    ignore: Labels = None,
    symmetric: bool = True,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """`softmax_contrastive` with the hardest negatives of each row alone.

    Of the n negatives of a row the max(1, round(fraction n)) most similar stay in its sum; the others have
    no part in it. Which ones is no matter of gradients. fraction=1 is the ordinary loss. If `symmetric`,
    the value is the mean of both directions, each with hardest ones of its own.

    rows, columns, scale, positives, ignore: as in `softmax_contrastive`. A device holds the hardest
    similarities of its rows for a moment, fraction R C numbers over the devices. engine: keywords of
    `similarity.cross_entropy`. A number that is not finite makes the value +inf and every gradient 0.

    Source: Wang and Liu 2021, arXiv 2012.09740. Raises ValueError for shapes that do not fit, a scale that
    is not positive and a fraction outside (0, 1].
    """
    _check(fraction)
    (rows, columns, scale), fine = finite(rows, columns, checked_scale(scale))
    sides, engine = records(rows, columns, positives, ignore), dict(engine or {})
    shared = {"scale": jnp.asarray(scale, jnp.promote_types(jnp.float32, rows.dtype))}
    means = []
    for one, other in (sides, sides[::-1]) if symmetric else (sides,):
        one = {**one, "threshold": _threshold(one, other, fraction, engine)}
        sums = cross_entropy(Dot(_hard, lambda shared: shared["scale"]), one, other, shared, **engine)
        means.append(mean_cross_entropy(sums.row_lse, sums.row_target, sums.row_mass))
    value = sum(mean for mean, _ in means) / len(means)
    return Loss(guarded(value, fine), {"scale": shared["scale"], **means[0][1]})


def simple_contrastive(
    rows: Float[Array, "R d"],
    columns: Float[Array, "C d"],
    *,
    repulsion: Float[Array, ""] | float = 1.0,
    fraction: float = 1.0,
    positives: Labels = None,
    ignore: Labels = None,
    symmetric: bool = True,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """What the softmax loss becomes at a high temperature: every negative pushed as much as any other.

        L = mean_i ( - mean_{j in P_i} s_ij + repulsion mean_{j in N_i} s_ij ),   s_ij = <rows_i, columns_j>

    with P_i the positives of a row and N_i its negatives, or the hardest `fraction` of them, as in
    `hard_contrastive` (the hard simple loss). Rows without a positive are skipped; a row without a negative
    is only pulled. If `symmetric`, the value is the mean of both directions. The rest as there; metrics:
    `positive` and `negative`, the mean similarities.

    Source: Wang and Liu 2021, arXiv 2012.09740. Raises ValueError for shapes that do not fit, a repulsion
    that is not positive and a fraction outside (0, 1].
    """
    _check(fraction)
    if isinstance(repulsion, int | float) and not 0 < repulsion < math.inf:
        raise ValueError(f"repulsion={repulsion}: give a positive number")
    (rows, columns, repulsion), fine = finite(rows, columns, repulsion)
    sides, engine = records(rows, columns, positives, ignore), dict(engine or {})
    directions = []
    for one, other in (sides, sides[::-1]) if symmetric else (sides,):
        has = _counts(one, other, engine)[0] > 0
        one = {**one, "threshold": _threshold(one, other, fraction, engine)}
        each = (_mean_of(which, one, other, engine) for which in (_positives, _negatives))
        directions.append([jnp.where(has, x, 0).sum() / jnp.maximum(has.sum(), 1) for x in each])
    value = sum(repulsion * push - pull for pull, push in directions) / len(directions)
    metrics = dict(zip(("positive", "negative"), directions[0]))
    return Loss(guarded(value, fine), jax.lax.stop_gradient(metrics))


def _threshold(rows: Side, columns: Side, fraction: float, engine) -> Float[Array, " R"]:
    """A similarity between those of the negatives that stay and of those that do not; -inf if all stay.

    It lies halfway between the last that stays and the first that does not: the same product, added up in
    other blocks, differs in its last digits.
    """
    R, C = len(rows["embedding"]), len(columns["embedding"])
    k = min(max(1, round(fraction * C)) + 1, C)
    if fraction == 1:
        return jnp.full(R, -jnp.inf, jnp.promote_types(jnp.float32, rows["embedding"].dtype))
    values, _ = top_k(Dot(_candidates), rows, columns, k=k, **engine)
    number = _counts(rows, columns, engine)[1]
    stay = jnp.maximum(1, jnp.round(fraction * number)).astype(jnp.int32)
    last, following = (
        jnp.take_along_axis(values, jnp.minimum(i, k - 1)[:, None], axis=1)[:, 0] for i in (stay - 1, stay)
    )
    return jax.lax.stop_gradient(jnp.where(stay < number, (last + following) / 2, -jnp.inf))


def _counts(rows: Side, columns: Side, engine) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """How many positives and how many negatives each row has; no products are made for it."""

    def counted(rows, columns, shared) -> Scores:
        positive, mask = relation(rows, columns)
        return Scores(jnp.zeros(positive.shape, jnp.float32), mask, positive)

    bare = ({k: v for k, v in side.items() if k in ("id", "ignore")} for side in (rows, columns))
    sums = cross_entropy(counted, *bare, **{k: v for k, v in engine.items() if k != "backend"})
    every = jnp.where(jnp.isneginf(sums.row_lse), 0, jnp.round(jnp.exp(sums.row_lse)))
    return jax.lax.stop_gradient((sums.row_mass, every - sums.row_mass))


def _mean_of(which, rows: Side, columns: Side, engine) -> Float[Array, " R"]:
    """The mean similarity of each row to some columns, 0 where there is none."""

    def values(dots, rows, columns, shared) -> Weighted:
        return Weighted(jnp.zeros_like(dots), dots, which(dots, rows, columns))

    return expectation(Dot(values), rows, columns, weights_gradient=False, **engine)


def _positives(dots, rows, columns):
    return relation(rows, columns)[0]


def _negatives(dots, rows, columns):
    """The negatives that stay."""
    positive, mask = relation(rows, columns)
    hard = ~positive & (dots >= rows["threshold"][:, None])
    return hard if mask is None else hard & mask


def _candidates(dots, rows, columns, shared) -> Scores:
    positive, mask = relation(rows, columns)
    return Scores(dots, ~positive if mask is None else ~positive & mask)


def _hard(dots, rows, columns, shared) -> Scores:
    positive = relation(rows, columns)[0]
    return Scores(shared["scale"] * dots, positive | _negatives(dots, rows, columns), positive)


def _check(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction}: give a share of the negatives, over 0 and at most 1")


def _check_setting(fraction: float) -> None:
    try:
        _check(fraction)
    except ValueError as error:
        raise InputError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class HardContrastive(PairLoss):
    """`hard_contrastive` of two branches; fraction: of a row's negatives that stay, the hardest."""

    fraction: float
    scale: float = 1.0
    scale_max: float | None = 100.0
    symmetric: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_setting(self.fraction)

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        """Each direction sweeps once for the hardest and once for the loss."""
        once = super().matrices(batch_size, sizes) * (1 + self.symmetric)
        return once if self.fraction == 1 else once + tuple(m._replace(sides=0) for m in once)

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        pair, labels = self.arguments(embeddings, fields)
        keywords = {"fraction": self.fraction, "symmetric": self.symmetric, **labels}
        return hard_contrastive(*pair, scale=self.scale_of(params), **keywords)


@dataclass(frozen=True, kw_only=True)
class SimpleContrastive(PlainPairLoss):
    """`simple_contrastive` of two branches; nothing is learned."""

    repulsion: float = 1.0
    fraction: float = 1.0
    symmetric: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_setting(self.fraction)
        if self.repulsion <= 0:
            raise InputError(f"repulsion={self.repulsion}: give a positive number")

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        """Each direction sweeps for its positives and its negatives, and for the hardest of those."""
        once = super().matrices(batch_size, sizes) * (1 + self.symmetric)
        return 2 * once + (() if self.fraction == 1 else tuple(m._replace(sides=0) for m in once))

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        pair, labels = self.arguments(embeddings, fields)
        names = "repulsion", "fraction", "symmetric"
        return simple_contrastive(*pair, **{name: getattr(self, name) for name in names}, **labels)
