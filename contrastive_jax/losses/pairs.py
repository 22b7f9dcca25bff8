"""Which pairs of a batch are positives, and which are left out, from ids instead of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

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


def field_names(*wired: str | tuple[str, str] | None) -> tuple[str, ...]:
    """The batch fields that a loss reads, from what a config gives for its labels."""
    return tuple(name for one in wired if one for name in ((one,) if isinstance(one, str) else one))


def labels(fields: Mapping[str, Array], wired: str | tuple[str, str] | None) -> Labels:
    """The labels that a config wires to batch fields: one field for both sides, or one for each."""
    if not wired:
        return None
    return fields[wired] if isinstance(wired, str) else tuple(fields[name] for name in wired)
