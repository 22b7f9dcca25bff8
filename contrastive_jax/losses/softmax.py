"""Softmax contrastive losses: InfoNCE in one or both directions, with what papers have added to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError
from contrastive_jax.losses.guides import attach_guide, false_negative
from contrastive_jax.losses.loss import Loss
from contrastive_jax.losses.margins import check_margins, with_margin
from contrastive_jax.losses.means import mean_cross_entropy, softmax_at_chance
from contrastive_jax.losses.negatives import Memory, further_columns, seen, with_labels
from contrastive_jax.losses.pairs import (
    checked_labels,
    checked_scale,
    finite,
    guarded,
    records,
    relation,
    soft_targets,
)
from contrastive_jax.losses.smoothing import smoothed_cross_entropy
from contrastive_jax.losses.wiring import Matrix, PairLoss, several
from contrastive_jax.similarity import Dot, Scores, cross_entropy

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from contrastive_jax.losses.negatives import Negatives
    from contrastive_jax.losses.pairs import Labels

    Pair = tuple[Float[Array, "R k"], Float[Array, "C k"]] | None
    Weights = Float[Array, " B"] | tuple[Float[Array, " R"], Float[Array, " C"]] | None


def softmax_contrastive(
    rows: Float[Array, "R d"],
    columns: Float[Array, "C d"],
    *,
    scale: Float[Array, ""] | float,
    positives: Labels = None,
    soft: Pair = None,
    ignore: Labels = None,
    present: Labels = None,
    guide: Pair = None,
    guide_margin: float = 0.0,
    negatives: Negatives | tuple[Negatives, ...] | None = None,
    own_negatives: float = 0.0,
    memory: Memory | Float[Array, "N d"] | None = None,
    memory_labels: Int[Array, " R"] | None = None,
    log_weights: Weights = None,
    weights: Weights = None,
    margin: float = 0.0,
    angular_margin: float = 0.0,
    label_smoothing: float = 0.0,
    decoupled: bool = False,
    symmetric: bool = True,
    engine: Mapping[str, Any] | None = None,
) -> Loss:
    """Cross-entropy of each row against the columns, and of each column against the rows.

    With l_ij = scale <rows_i, columns_j>, P_i the positives of row i and V_i the columns that take part:

        L_i = log sum_{j in V_i} exp(l_ij) - (1 - e) mean_{j in P_i} l_ij - e mean_{j in V_i} l_ij

    and the value is the mean of L_i over the rows that have a positive; if `symmetric`, the mean of that
    and of the same for the columns. A batch without any positive has value 0. An embedding or a weight
    that is not finite makes the value +inf and every gradient 0.

    rows, columns: embeddings, as a rule of unit length; nothing here normalises them.
    scale: multiplies the cosines (1 / temperature).

    Who belongs to whom (by default row i to column i):
    positives: ids [B] or a pair ([R], [C]); equal ids are positives. Integers of any size, but that `jit`
        itself cuts what it is given to 32 bits.
    soft: instead, what each example is, ([R, k], [C, k]) of numbers from 0 up, such as probabilities of
        k classes. Pair i, j is wanted as much as their product says: mean_{P_i} has these weights.
    ignore: ids; a pair with equal ones that is no positive is left out (no false negative).
    present: booleans; an absent example is neither a row nor a column.
    guide: another encoder's embeddings ([R, g], [C, g]). A pair that it finds closer than the row's own
        positive, by `guide_margin`, is left out. Each direction then is a sweep of its own. A copy of
        the positive is as close as the positive: guide_margin=-0.01 leaves copies out as well.

    Further columns of the rows, nobody's positive:
    negatives: hard negatives, [R, K, d] or [N, d] or several such, seen by every row. own_negatives: added
        to the logits of a row's own ones, those [R, K, d] of its number (SimCSE's log of a weight).
    memory: [N, d], or a `Memory` with places not filled yet, which no row sees; without gradient.
    memory_labels: of the rows; each sees the part of a labelled memory that has its own label.

    How much everything weighs:
    log_weights: added to the logits of a column in the rows' direction, of a row in the columns'.
    weights: of the examples in the mean. margin, angular_margin: of the positives, see `margins`.
    label_smoothing: e above. decoupled: the log-sum-exp is over V_i without P_i; a row that is left
        with no negative is skipped.

    engine: keywords of `similarity.cross_entropy` (axes, block, mesh, ...). Metrics: `scale`, and over
    the rows, where labels are not smoothed, `positive_logit` (mean) and `positive_probability`
    (geometric mean over a row's positives, then the mean).

    Sources: van den Oord et al. 2018, arXiv 1807.03748; CLIP, Radford et al. 2021, arXiv 2103.00020;
    several positives (mean outside the logarithm): Khosla et al. 2020, arXiv 2004.11362; memory: He et
    al. 2019, arXiv 1911.05722, by label: Wu et al. 2022, arXiv 2206.03281; hard negatives: Karpukhin et
    al. 2020, arXiv 2004.04906, their weight: Gao et al. 2021, arXiv 2104.08821; decoupled: Yeh et al.
    2021, arXiv 2110.06848; guide: Solatorio 2024, arXiv 2402.16829.
    Raises ValueError for shapes that do not fit and for numbers out of their range.
    """
    check_margins(margin, angular_margin)
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing={label_smoothing}: give a number in [0, 1)")
    if positives is not None and soft is not None:
        raise ValueError("positives= and soft= both say who belongs to whom: give one of them")
    memory, memory_labels = with_labels(Memory.of(memory), memory_labels, len(rows))
    remembered = None if memory is None else memory.embeddings
    given = rows, columns, checked_scale(scale), negatives, remembered, soft, guide, log_weights, weights
    given, fine = finite(*given, present=present)
    rows, columns, scale, negatives, remembered, soft, guide, log_weights, weights = given
    sides = records(rows, columns, positives, ignore, present, soft, log_weights)
    engine = dict(engine or {})
    further = {"negatives": negatives, "own_negatives": own_negatives, "memory_labels": memory_labels}
    if memory is not None:
        further["memory"] = memory._replace(embeddings=remembered)
    if guide is not None:
        attach_guide(sides, guide, guide_margin, engine)
    tile = _Tile(positives is None and soft is None, margin, angular_margin, decoupled, label_smoothing)
    shared = {"scale": jnp.asarray(scale, jnp.promote_types(jnp.float32, rows.dtype))}
    weights = checked_labels(sides, "weight", weights)
    both = symmetric and guide is None
    value, metrics = tile.mean(sides, shared, weights, both, engine, **further)
    if symmetric and not both:
        value = (value + tile.mean(sides[::-1], shared, weights[::-1], False, engine)[0]) / 2
    return Loss(guarded(value, fine), {"scale": shared["scale"], **metrics})


class _Tile(NamedTuple):
    """What is fixed of a softmax loss while a program is traced."""

    diagonal: bool
    margin: float = 0.0
    angular_margin: float = 0.0
    decoupled: bool = False
    smoothing: float = 0.0

    def mean(self, sides, shared, weights, symmetric: bool, engine, **further):
        """The mean over the rows, or of both directions, and metrics of the rows."""
        rows, columns = (self.needed(side) for side in sides)
        dot = Dot(self.scores, _bound)
        if "log_weight" in rows:
            most = rows["log_weight"].max() + jnp.maximum(columns["log_weight"].max(), 0)
            shared = {**shared, "most": jax.lax.stop_gradient(most)}
        rows, columns, extra = _with_further(rows, columns, **further)
        if "owner" in columns:
            shared = {**shared, "own": jnp.asarray(further["own_negatives"], shared["scale"].dtype)}
        if self.smoothing:
            weights = _smoothing_weights((rows, columns), weights, symmetric)
            smoothed = smoothed_cross_entropy(
                dot, (rows, columns), extra, shared, self.smoothing, weights, engine
            )
            return smoothed / (1 + symmetric), {}
        diagonal = {"targets": "diagonal"} if self.diagonal else {}
        extra = {"extra": extra} if extra else {}
        sums = cross_entropy(dot, rows, columns, shared, **diagonal, **extra, **engine)
        value, metrics = mean_cross_entropy(sums.row_lse, sums.row_target, sums.row_mass, weights[0])
        if symmetric:
            of_columns = sums.column_lse, sums.column_target, sums.column_mass
            value = (value + mean_cross_entropy(*of_columns, weights[1])[0]) / 2
        return value, metrics

    def needed(self, record: dict[str, Array]) -> dict[str, Array]:
        """The record, without ids where the engine's diagonal says it all: they would travel for nothing."""
        options = self.smoothing, self.margin, self.angular_margin, self.decoupled
        if not self.diagonal or any(options) or "ignore" in record or "guide" in record:
            return record
        return {name: leaf for name, leaf in record.items() if name != "id"}

    def scores(self, dots, rows, columns, shared) -> Scores:
        positive, mask = relation(rows, columns)
        in_sight = seen(rows, columns, dots.shape)
        if in_sight is not None:
            mask = in_sight if mask is None else mask & in_sight
        if "guide" in rows:
            fit = positive | ~false_negative(rows, columns)
            mask = fit if mask is None else mask & fit
        if self.margin or self.angular_margin:
            dots = with_margin(dots, positive, self.margin, self.angular_margin)
        logits = shared["scale"] * dots
        if "log_weight" in rows:
            logits += rows["log_weight"][:, None] + columns["log_weight"][None, :]
        if "owner" in columns:
            own = rows["number"][:, None] == columns["owner"][None, :]
            logits += jnp.where(own, shared["own"], 0)
        if self.diagonal and not self.smoothing:
            targets = None
        else:
            targets = soft_targets(rows, columns) if "soft" in rows else positive
        return Scores(logits, mask, targets, ~positive if self.decoupled else None)


def _bound(shared):
    return shared["scale"] + shared.get("most", 0) + jnp.maximum(shared.get("own", 0), 0)


def _with_further(rows, columns, negatives=None, own_negatives=0.0, memory=None, memory_labels=None):
    """(rows, columns, further columns), with what rows and columns must know of those."""
    if own_negatives:
        rows = {**rows, "number": jnp.arange(len(rows["embedding"]), dtype=jnp.int32)}
        columns = {**columns, "owner": jnp.full(len(columns["embedding"]), -1, jnp.int32)}
    if memory_labels is not None:
        rows = {**rows, "memory_label": memory_labels}
    return rows, *further_columns(columns, negatives, memory, memory_labels is not None)


def _smoothing_weights(sides, weights, symmetric: bool):
    ones = (jnp.ones(len(s["embedding"])) if w is None else w for s, w in zip(sides, weights))
    return tuple(w * part for w, part in zip(ones, (1, symmetric)))


@dataclass(frozen=True, kw_only=True)
class SoftmaxContrastive(PairLoss):
    """`softmax_contrastive` of two branches; the scale is learned if `learn_scale`.

    guide: two more branches, of the rows and of the columns; negatives: one or more branches of hard
    negatives, each with one or several an example, own_negatives: added to the logits of an example's own
    ones; memory: a memory, memory_labels: the batch field that says which part of it an example sees.
    """

    scale: float = 1 / 0.07
    scale_max: float | None = 100.0
    label_smoothing: float = 0.0
    margin: float = 0.0
    angular_margin: float = 0.0
    decoupled: bool = False
    guide: tuple[str, ...] | None = None
    guide_margin: float = 0.0
    negatives: str | tuple[str, ...] | None = None
    own_negatives: float = 0.0
    memory: str | None = None
    memory_labels: str | None = None
    symmetric: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.own_negatives and not self.negatives:
            raise InputError(f"own_negatives={self.own_negatives} wants negatives: name their branch")
        if self.memory_labels and not self.memory:
            raise InputError(f"memory_labels={self.memory_labels} wants a memory: name it")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing={self.label_smoothing}: give a number in [0, 1)")
        if self.guide is not None and len(self.guide) != 2:
            raise InputError(f"guide={self.guide}: name two branches, the rows' guide and the columns'")
        try:
            check_margins(self.margin, self.angular_margin)
        except ValueError as error:
            raise InputError(str(error)) from error

    @property
    def branches(self) -> tuple[str, ...]:
        return (*super().branches, *(self.guide or ()), *several(self.negatives))

    @property
    def memories(self) -> tuple[str, ...]:
        return several(self.memory)

    @property
    def fields(self) -> tuple[str, ...]:
        return (*super().fields, *several(self.memory_labels))

    def matrices(self, batch_size: int, sizes: Mapping[str, int] = {}) -> tuple[Matrix, ...]:
        found = super().matrices(batch_size, sizes)
        for name in several(self.negatives):
            found += (Matrix(batch_size, sizes.get(name, batch_size), self.rows),)
        for name in self.memories:
            found += (Matrix(batch_size, sizes.get(name, 0), self.rows, sides=1),)
        return found + ((Matrix(batch_size, batch_size, self.guide[0], sides=0),) if self.guide else ())

    def at_chance(self, batch_size: int, sizes: Mapping[str, int] = {}) -> float | None:
        return softmax_at_chance(self, batch_size, sizes)

    def __call__(self, params: dict[str, Array], embeddings: Mapping, fields: Mapping) -> Loss:
        pair, labels = self.arguments(embeddings, fields)
        negatives = tuple(embeddings[name] for name in several(self.negatives))
        if self.own_negatives:
            negatives = tuple(z[:, None] if z.ndim == 2 else z for z in negatives)
        same = "label_smoothing", "margin", "angular_margin", "decoupled", "guide_margin", "symmetric"
        return softmax_contrastive(
            *pair,
            scale=self.scale_of(params),
            guide=tuple(embeddings[name] for name in self.guide) if self.guide else None,
            negatives=negatives,
            own_negatives=self.own_negatives,
            memory=embeddings[self.memory] if self.memory else None,
            memory_labels=fields[self.memory_labels] if self.memory_labels else None,
            **{name: getattr(self, name) for name in same},
            **labels,
        )
