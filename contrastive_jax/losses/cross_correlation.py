"""Barlow Twins: dimensions, not examples, are compared, by their correlation over the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.pairs import finite, guarded
from contrastive_jax.losses.wiring import PlainLoss

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

CONSTANT = 1e-12  # the variance below which a dimension tells nothing


def cross_correlation(
    a: Float[Array, "B d"],
    b: Float[Array, "B d"],
    target: Float[Array, "d d"] | None = None,
    *,
    off_diagonal: Float[Array, ""] | float = 0.0051,
) -> Loss:
    """The distance of the cross-correlation of two views from a wanted one.

        C_kl = mean_i a'_ik b'_il,   ' = standardised over the batch by the mean and the biased variance
        L    = sum_k (T_kk - C_kk)^2 + off_diagonal sum_{k != l} (T_kl - C_kl)^2

    target: T, None for the identity (Barlow Twins): each dimension is the same in both views and tells
    something of its own. Only C, [d, d], is held. A dimension that is constant over the batch is 0 after
    standardising. A number that is not finite makes the value +inf and every gradient 0. Metrics:
    `on_diagonal` and `off_diagonal`, the two sums.

    Source: Zbontar et al. 2021, arXiv 2103.03230. Raises ValueError for shapes that do not fit and for an
    off_diagonal below 0.
    """
    _check(off_diagonal, a, b)
    (a, b, target, off_diagonal), fine = finite(a, b, target, off_diagonal)
    if target is not None and target.shape != (a.shape[1],) * 2:
        raise ValueError(f"target has shape {target.shape}: give {(a.shape[1],) * 2}")
    on, off = _distance(_correlation(standardised(a), standardised(b)), target)
    metrics = {"on_diagonal": on, "off_diagonal": off}
    return Loss(guarded(on + off_diagonal * off, fine), jax.lax.stop_gradient(metrics))


def mixed_barlow(
    a: Float[Array, "B d"],
    b: Float[Array, "B d"],
    mixed: Float[Array, "B d"],
    partner: Int[Array, " B"],
    share: Float[Array, ""] | Float[Array, " B"],
    *,
    off_diagonal: Float[Array, ""] | float = 0.0078125,
    mixed_weight: float = 4.0,
) -> Loss:
    """`cross_correlation` of a and b, and what keeps it from overfitting: a view in between.

    The third view is of inputs between, share x_a + (1 - share) x_b[partner], and its correlation with both
    others is to be what it were if embeddings were linear in inputs:

        between = share a' + (1 - share) b'[partner]
        L = L_ab + off_diagonal mixed_weight ( |C(mixed, a) - between^T a' / B|^2 + the same with b )

    with ' as in `cross_correlation` and gradients through all of it. share: one number, or one an example.
    Metrics: `barlow` and `mixed`, the two parts.

    Source: Bandara et al. 2023, arXiv 2312.02151. Raises ValueError for shapes that do not fit and for an
    off_diagonal below 0.
    """
    _check(off_diagonal, a, b, mixed)
    if partner.shape != a.shape[:1] or jnp.shape(share) not in ((), a.shape[:1]):
        raise ValueError(
            f"partner {partner.shape} and share {jnp.shape(share)} beside {len(a)} examples: give [B], and "
            "one number or [B]"
        )
    (a, b, mixed, share, off_diagonal), fine = finite(a, b, mixed, share, off_diagonal)
    a, b, mixed = (standardised(z) for z in (a, b, mixed))
    on, off = _distance(_correlation(a, b), None)
    barlow = on + off_diagonal * off
    share = jnp.reshape(share.astype(a.dtype), (-1, 1))
    gap = mixed - (share * a + (1 - share) * b[partner])
    regularizer = sum(jnp.sum(_correlation(gap, z) ** 2) for z in (a, b))
    regularizer *= off_diagonal * mixed_weight
    metrics = jax.lax.stop_gradient({"barlow": barlow, "mixed": regularizer})
    return Loss(guarded(barlow + regularizer, fine), metrics)


def standardised(z: Float[Array, "B d"]) -> Float[Array, "B d"]:
    """Each dimension with mean 0 and (biased) variance 1 over the batch, in float32 or wider."""
    z = z.astype(jnp.promote_types(jnp.float32, z.dtype))
    z = z - jnp.mean(z, axis=0)
    variance = jnp.mean(z * z, axis=0)
    varies = variance > CONSTANT
    return jnp.where(varies, z * jax.lax.rsqrt(jnp.where(varies, variance, 1)), 0)


def _correlation(a, b) -> Float[Array, "d d"]:
    return jnp.einsum("ik,il->kl", a, b, precision=jax.lax.Precision.HIGHEST) / len(a)


def _distance(C: Float[Array, "d d"], target) -> tuple[Float[Array, ""], Float[Array, ""]]:
    diagonal = jnp.eye(len(C), dtype=bool)
    squares = (C - (diagonal if target is None else target)) ** 2
    return jnp.sum(jnp.where(diagonal, squares, 0)), jnp.sum(jnp.where(diagonal, 0, squares))


def _check(off_diagonal, *views) -> None:
    if views[0].ndim != 2 or len({z.shape for z in views}) > 1:
        raise ValueError(f"views have shapes {[z.shape for z in views]}: give them of one shape [B, d]")
    if isinstance(off_diagonal, int | float) and not off_diagonal >= 0:
        raise ValueError(f"off_diagonal={off_diagonal}: give 0 or more")


@dataclass(frozen=True, kw_only=True)
class CrossCorrelation(PlainLoss):
    """`cross_correlation` of two branches with the identity; nothing is learned.

    Standardising undoes lengths in each dimension, not in each example: branches as a rule have
    normalize=False.
    """

    a: str
    b: str
    off_diagonal: float = 0.0051

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.off_diagonal < 0:
            raise InputError(f"off_diagonal={self.off_diagonal}: give 0 or more")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.a, self.b

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        return cross_correlation(embeddings[self.a], embeddings[self.b], off_diagonal=self.off_diagonal)


@dataclass(frozen=True, kw_only=True)
class MixedBarlow(CrossCorrelation):
    """`mixed_barlow` of three branches. mixed: the one that mixes the inputs of a with those of b."""

    mixed: str
    off_diagonal: float = 0.0078125
    mixed_weight: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mixed_weight < 0:
            raise InputError(f"mixed_weight={self.mixed_weight}: give 0 or more")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.a, self.b, self.mixed

    @property
    def mixed_branch(self) -> str:
        """The branch whose partners and share stand among the fields, as `NAME.partner` and `NAME.share`."""
        return self.mixed.partition(".")[0]

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        return mixed_barlow(
            *(embeddings[name] for name in self.branches),
            fields[f"{self.mixed_branch}.partner"],
            fields[f"{self.mixed_branch}.share"],
            off_diagonal=self.off_diagonal,
            mixed_weight=self.mixed_weight,
        )
