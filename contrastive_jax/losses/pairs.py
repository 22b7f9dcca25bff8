"""Losses of pairs: which are positives and which are left out, from ids instead of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Array, Bool, Float, Int

    Labels = Int[Array, " B"] | tuple[Int[Array, " R"], Int[Array, " C"]] | None


def records(
    rows: Float[Array, "R d"],
    columns: Float[Array, "C d"],
    positives: Labels,
    ignore: Labels,
    present: Labels,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Row and column records for a tile: {"embedding", "id"} and, where given, {"ignore", "present"}.

    Each label is one array for both sides or a pair (rows, columns). Without `positives` row i belongs
    to column i. Raises ValueError for embeddings that do not match or labels of the wrong length.
    """
    if rows.ndim != 2 or columns.ndim != 2 or rows.shape[1] != columns.shape[1]:
        raise ValueError(f"embeddings have shapes {rows.shape} and {columns.shape}; give [R, d] and [C, d]")
    if positives is None:
        if len(rows) != len(columns):
            raise ValueError(
                f"{len(rows)} rows and {len(columns)} columns: say which belong together (positives=)"
            )
        positives = jnp.arange(len(rows), dtype=jnp.int32)
    sides = {"embedding": rows}, {"embedding": columns}
    for name, labels in (("id", positives), ("ignore", ignore), ("present", present)):
        if labels is None:
            continue
        pair = labels if isinstance(labels, tuple) else (labels, labels)
        for side, label in zip(sides, pair):
            if label.shape != side["embedding"].shape[:1]:
                raise ValueError(
                    f"labels have shape {label.shape} beside embeddings {side['embedding'].shape}"
                )
            side[name] = label
    return sides


def relation(
    rows: dict[str, Array], columns: dict[str, Array]
) -> tuple[Bool[Array, "r c"], Bool[Array, "r c"] | None]:
    """(positive, takes part): equal ids are positives; equal `ignore` ids are no negatives."""
    positive = rows["id"][:, None] == columns["id"][None, :]
    mask = None
    if "ignore" in rows:
        mask = positive | (rows["ignore"][:, None] != columns["ignore"][None, :])
    if "present" in rows:
        both = rows["present"][:, None] & columns["present"][None, :]
        mask = both if mask is None else mask & both
    return positive, mask


@dataclass(frozen=True)
class PairLoss:
    """What losses of two branches share as a config names them; see `softmax` and `sigmoid`.

    rows, columns: branches. positives, ignore: a batch field, or one of the rows' and one of the columns'.
    scale: the factor of the logits at the start; scale_max: its bound, None for none. The bound is a
    projection after each update: a clip in the forward pass would leave the scale stuck beyond it.
    """

    rows: str
    columns: str
    positives: str | tuple[str, str] | None = None
    ignore: str | tuple[str, str] | None = None
    scale: float = 1.0
    scale_max: float | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise InputError(f"scale={self.scale}: give a positive number")
        if self.scale_max is not None and self.scale > self.scale_max:
            raise InputError(f"scale={self.scale} is over scale_max={self.scale_max}: lower it or raise that")

    @property
    def branches(self) -> tuple[str, ...]:
        return self.rows, self.columns

    @property
    def fields(self) -> tuple[str, ...]:
        wired = [(one,) if isinstance(one, str) else one or () for one in (self.positives, self.ignore)]
        return tuple(name for names in wired for name in names)

    def project(self, params: dict[str, Array]) -> dict[str, Array]:
        if self.scale_max is None or "log_scale" not in params:
            return params
        return {**params, "log_scale": jnp.minimum(params["log_scale"], jnp.log(jnp.float32(self.scale_max)))}

    def arguments(self, embeddings: Mapping[str, Array], fields: Mapping[str, Array]) -> tuple[tuple, dict]:
        """The embeddings, and the labels by keyword, that the loss function takes."""
        labels = {
            key: fields[wired] if isinstance(wired, str) else tuple(fields[name] for name in wired)
            for key, wired in (("positives", self.positives), ("ignore", self.ignore))
            if wired
        }
        return (embeddings[self.rows], embeddings[self.columns]), labels
