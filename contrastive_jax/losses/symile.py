"""Symile: three modalities or more, scored by one product of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from contrastive_jax.errors import InputError
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.pairs import checked_scale, equal, finite, guarded
from contrastive_jax.losses.wiring import Matrix, ViewsLoss
from contrastive_jax.similarity import Dot, Scores, logsumexp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key


def symile(
    embeddings: Sequence[Float[Array, "B d"]],
    *,
    scale: Float[Array, ""] | float,
    negatives: str = "permute",
    key: Key[Array, ""] | None = None,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Each of M modalities in turn is the anchor and picks its companions among others' combinations.

    With <x_1, ..., x_M> = sum_d x_1d ... x_Md and, for an anchor m, the others taken from one example:

        L_im = log sum_{c in C} exp(scale <x_im, c>) - scale <x_i1, ..., x_iM>

    where C is the right combination and the wrong ones; the value is the mean of L_im over i and m.
    negatives="permute" makes B - 1 wrong ones, of every other modality in an order of its own drawn from
    `key` (work B^2 d); "all" takes all B^(M-1) - 1 there are (work B^M d), for M = 2, where it is CLIP's
    loss, or M = 3. Both need memory in proportion to B d: "all" to a device's share of it, while to
    permute one other modality a device holds it whole for a moment.

    embeddings: M of them, as a rule of unit length; their product is then about d^(1 - M/2), so a scale
    far over CLIP's 100 is in order. engine: keywords of `similarity.cross_entropy`. A number that is
    not finite in an embedding makes the value +inf and every gradient 0.

    Source: Saporta et al. 2024, arXiv 2411.01053. Raises ValueError for shapes that do not fit, a missing
    key and a scale that is not positive.
    """
    shapes = [jnp.shape(z) for z in embeddings]
    if len(shapes) < 2 or len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(f"embeddings have shapes {shapes}: give two or more of one shape [B, d]")
    if negatives not in ("permute", "all"):
        raise ValueError(f'negatives={negatives!r}: give "permute" or "all"')
    if negatives == "permute" and key is None:
        raise ValueError('negatives="permute" draws orders: pass key=')
    if negatives == "all" and len(shapes) > 3:
        raise ValueError(f'negatives="all" takes 2 or 3 embeddings, not {len(shapes)}: use "permute"')
    (*z, scale), fine = finite(*embeddings, checked_scale(scale))
    dtype = jnp.promote_types(jnp.float32, z[0].dtype)
    if z[0].dtype == jnp.float16:  # which elements of a product are too small for
        z = [x.astype(dtype) for x in z]
    scale, engine = jnp.asarray(scale, dtype), dict(engine or {})
    right = scale * math.prod(x.astype(dtype) for x in z).sum(-1)
    if negatives == "permute":
        wrong = [_permuted(m, z, scale, jax.random.fold_in(key, m), engine) for m in range(len(z))]
    elif len(z) == 2:
        wrong = _sweep(*z, scale, 0, engine)
    else:
        wrong = _all_triples(engine)(*z, scale)
    value = sum(jax.nn.softplus(lse - right).mean() for lse in wrong) / len(z)
    return Loss(guarded(value, fine), {"scale": scale, "positive_logit": lax.stop_gradient(right.mean())})


def _permuted(m: int, z, scale, key, engine) -> Float[Array, " B"]:
    """The log-sum-exp of anchor m over combinations of the others, each in an order of its own."""
    others = [x for n, x in enumerate(z) if n != m]
    orders = (jax.random.permutation(jax.random.fold_in(key, n), len(x)) for n, x in enumerate(others))
    wrong = math.prod(_in_order(x, order) for x, order in zip(others, orders))
    return _sweep(z[m], wrong, scale, 0, engine)[0]


def _sweep(rows, columns, scale, shift, engine) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Log-sum-exps of both sides; without the pairs of one example if `shift` is 0."""
    position = jnp.arange(len(rows), dtype=jnp.int32)
    sides = ({"embedding": z, "position": position} for z in (rows, columns))
    shared = {"scale": scale, "shift": jnp.asarray(shift, jnp.int32)}
    return logsumexp(Dot(_scores, lambda s: s["scale"]), *sides, shared, **engine)


def _scores(dots, rows, columns, shared) -> Scores:
    return Scores(shared["scale"] * dots, ~equal(rows, columns, "position") | (shared["shift"] != 0))


def _all_triples(engine):
    """The log-sum-exps of all three as anchors over all wrong triples, from B sweeps.

    Sweep s pairs x_i with the products a_j b_(j+s), so its rows belong to x and its columns to a and, s
    places on, to b: every triple is met once and serves three anchors. b and what is known of it move on
    by one place a sweep and are home after B. Only the sums are kept: the derivative sweeps again.
    """

    @jax.custom_vjp
    def wrong(x, a, b, scale):
        def step(s, carry):
            b, x_lse, a_lse, b_lse = carry
            row, column = _sweep(x, a * b, scale, s, engine)
            b_lse = jnp.logaddexp(b_lse, column)
            return _on(b), jnp.logaddexp(x_lse, row), jnp.logaddexp(a_lse, column), _on(b_lse)

        nothing = jnp.full_like(x[:, 0], -jnp.inf, scale.dtype)
        return lax.fori_loop(0, len(x), step, (b, nothing, nothing, nothing))[1:]

    def forward(*z):
        lse = wrong(*z)
        return lse, (z, lse)

    def backward(residuals, cotangents):
        (x, a, b, scale), (x_lse, a_lse, b_lse) = residuals
        x_g, a_g, b_g = cotangents

        def step(s, carry):
            gradients, b, b_lse, b_g = carry
            (row, column), pull = jax.vjp(
                lambda x, a, b, scale: _sweep(x, a * b, scale, s, engine), x, a, b, scale
            )
            pulled = pull((_part(row, x_lse, x_g), _part(column, a_lse, a_g) + _part(column, b_lse, b_g)))
            x_sum, a_sum, b_sum, scale_sum = jax.tree.map(
                lambda t, g: t + g.astype(t.dtype), gradients, pulled
            )
            return (x_sum, a_sum, _on(b_sum), scale_sum), _on(b), _on(b_lse), _on(b_g)

        zeros = tuple(jnp.zeros_like(t, scale.dtype) for t in (x, a, b, scale))
        gradients = lax.fori_loop(0, len(x), step, (zeros, b, b_lse, b_g))[0]
        return tuple(g.astype(t.dtype) for g, t in zip(gradients, (x, a, b, scale)))

    wrong.defvjp(forward, backward)
    return wrong


def _on(x: Array) -> Array:
    if _is_explicit(x):
        return _in_order(x, (jnp.arange(len(x)) + 1) % len(x))
    return jnp.roll(x, -1, axis=0)


def _in_order(x: Array, order: Array) -> Array:
    """x[order], lying where x lies."""
    if _is_explicit(x):
        return x.at[order].get(out_sharding=jax.typeof(x).sharding)
    return x[order]


def _is_explicit(x: Array) -> bool:
    return any(axes is not None for axes in jax.typeof(x).sharding.spec)


def _part(lse, total, cotangent):
    """The cotangent of one term of a log-sum-exp; of a sum of nothing, 0."""
    return cotangent * jnp.exp(lse - jnp.where(jnp.isneginf(total), 0, total))


@dataclass(frozen=True, kw_only=True)
class Symile(ViewsLoss):
    """`symile` of two branches or more.

    With negatives="permute" the orders are the same at every step: which examples stand at which place of
    a batch is drawn anew at every step.
    """

    scale: float = 20.0
    scale_max: float | None = None
    negatives: str = "permute"

    needs_others: ClassVar[bool] = True  # its `negatives` are a rule, not branches

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.views) < self.fewest:
            raise InputError(f"views={self.views}: name at least {self.fewest}, one a modality")
        if self.negatives not in ("permute", "all"):
            raise InputError(f"negatives={self.negatives!r}: give permute or all")
        if self.negatives == "all" and len(self.views) > 3:
            raise InputError(f"negatives=all takes 2 or 3 views, not {len(self.views)}: use permute")

    @property
    def grouped(self) -> tuple[str, ...]:
        return ()

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        """A matrix an anchor; with "all", one matrix serves all anchors, with all products of the others."""
        if self.negatives == "permute":
            return tuple(Matrix(batch_size, batch_size, view) for view in self.views)
        return (Matrix(batch_size, batch_size ** (len(self.views) - 1), self.views[0]),)

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        z = [embeddings[view] for view in self.views]
        key = jax.random.key(0) if self.negatives == "permute" else None
        return symile(z, scale=self.scale_of(params), negatives=self.negatives, key=key)
