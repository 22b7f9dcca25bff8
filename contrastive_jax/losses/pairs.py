"""Losses of pairs: which are positives and which are left out, from ids instead of matrices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.losses.labels import booleans, ids
from contrastive_jax.similarity.scores import varying_as
from contrastive_jax.similarity.tiles import products

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

    Labels = Int[Array, " B"] | tuple[Int[Array, " R"], Int[Array, " C"]] | None

LARGEST = 1e15  # two such numbers still multiply in float32


def records(
    rows: Float[Array, "R d"],
    columns: Float[Array, "C d"],
    positives: Labels = None,
    ignore: Labels = None,
    present: Labels = None,
    soft: tuple[Float[Array, "R k"], Float[Array, "C k"]] | None = None,
    log_weight: Float[Array, " B"] | tuple[Float[Array, " R"], Float[Array, " C"]] | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Row and column records for a tile: "embedding", "id" (or "soft"), and whatever else is given.

    Each label is one array for both sides or a pair (rows, columns). Without `positives` row i belongs
    to column i. Raises ValueError for embeddings that do not match or labels of the wrong length.
    """
    if rows.ndim != 2 or columns.ndim != 2 or rows.shape[1] != columns.shape[1]:
        raise ValueError(f"embeddings have shapes {rows.shape} and {columns.shape}; give [R, d] and [C, d]")
    if positives is None and soft is None:
        positives = aligned_ids(len(rows), len(columns))
    sides = {"embedding": rows}, {"embedding": columns}
    attach_ids(sides, "id", "positives", positives)
    attach_ids(sides, "ignore", "ignore", ignore)
    attach(sides, "present", None if present is None else booleans("present", present))
    attach(sides, "soft", soft, per_example=1)
    attach(sides, "log_weight", log_weight)
    return sides


def aligned_ids(rows: int, columns: int) -> Int[Array, " R"]:
    """The ids that say: row i belongs to column i."""
    if rows != columns:
        raise ValueError(f"{rows} rows and {columns} columns: say which belong together (positives=)")
    return jnp.arange(rows, dtype=jnp.int32)


def attach(sides: tuple[dict, dict], name: str, labels: Any, per_example: int = 0) -> None:
    """Adds labels to both records; see `checked_labels`. None adds nothing."""
    for side, label in zip(sides, checked_labels(sides, name, labels, per_example)):
        if label is not None:
            side[name] = jnp.asarray(label)


def attach_ids(sides: tuple[dict, dict], name: str, argument: str, labels: Any) -> None:
    """The same for ids, of which only matters which are equal; argument: what the caller calls them."""
    pair = checked_labels(sides, name, labels)
    if labels is not None:
        found = ids(argument, *pair) if isinstance(labels, tuple) else ids(argument, labels) * 2
        attach(sides, name, found)


def checked_labels(sides: tuple[dict, dict], name: str, labels: Any, per_example: int = 0) -> tuple[Any, Any]:
    """Labels of rows and of columns, given as one array for both or a pair.

    per_example: the axes of one example's label. Raises ValueError for labels of another shape.
    """
    for side, label in zip(sides, pair := one_a_side(labels)):
        if label is None:
            continue
        shape, count = np.shape(label), len(side["embedding"])
        if len(shape) != 1 + per_example or shape[0] != count:
            raise ValueError(f"labels have shape {shape} ({name}) beside {count} embeddings")
    return pair


def one_a_side(labels: Any) -> tuple[Any, Any]:
    """(rows, columns) of labels that are one array for both or a pair."""
    return labels if isinstance(labels, tuple) else (labels, labels)


def relation(
    rows: dict[str, Array], columns: dict[str, Array]
) -> tuple[Bool[Array, "r c"] | None, Bool[Array, "r c"] | None]:
    """(positive, takes part): equal ids are positives; equal `ignore` ids are no negatives.

    A column marked `extra` is nobody's positive and nobody ignores it.
    """
    positive, mask = equal(rows, columns, "id"), None
    if "soft" in rows:
        positive = soft_targets(rows, columns) > 0
    if "ignore" in rows:
        mask = positive | ~equal(rows, columns, "ignore")
    if "present" in rows:
        both = rows["present"][:, None] & columns["present"][None, :]
        mask = both if mask is None else mask & both
    return positive, mask


def soft_targets(rows: dict[str, Array], columns: dict[str, Array]) -> Float[Array, "r c"]:
    """How much each pair is wanted: the product of its two distributions."""
    return jax.lax.stop_gradient(products(rows["soft"], columns["soft"]))


def of_views(labels: Int[Array, " B"], views: int) -> Int[Array, " B*V"]:
    """The labels of B examples for each of their views, example by example; sharded as they are."""
    return jnp.reshape(jnp.broadcast_to(labels[:, None], (len(labels), views)), (-1,))


def equal(rows: dict[str, Array], columns: dict[str, Array], name: str) -> Bool[Array, "r c"] | None:
    """Where the two sides have the same label, or None where they have no such label."""
    if name not in rows:
        return None
    same = rows[name][:, None] == columns[name][None, :]
    return same & ~columns["extra"][None, :] if "extra" in columns else same


def checked_scale(scale: Float[Array, ""] | float) -> Float[Array, ""] | float:
    """The scale; ValueError for a plain number that is not positive and finite."""
    if isinstance(scale, (int, float)) and not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale={scale}: give a positive number (it multiplies the logits)")
    return scale


def finite(*trees, present: Labels = None) -> tuple[list, Bool[Array, ""]]:
    """The same, with a gradient of 0 where any number is not finite or over 1e15; and whether none was.

    `guarded` then says so in the value. present: booleans [B] or a pair for the first two arrays; the
    numbers of absent examples become 0 and count as good.
    """
    if present is not None:
        sides = (jnp.where(_like(there, x), x, 0) for there, x in zip(one_a_side(present), trees))
        trees = (*sides, *trees[2:])
    trees = jax.tree.map(jnp.asarray, trees)
    good = [jnp.all(jnp.abs(x.astype(jnp.float32)) <= LARGEST) for x in jax.tree.leaves(trees)]
    fine = jnp.stack(good).all()
    with_fine_gradient = lambda x: _with_fine_gradient(varying_as(x, fine), fine)  # noqa: E731
    return [jax.tree.map(with_fine_gradient, tree) for tree in trees], fine


@jax.custom_vjp
def _with_fine_gradient(x: Array, fine: Bool[Array, ""]) -> Array:
    return x


def _fine_forward(x, fine):
    return x, fine


def _fine_backward(fine, cotangent):
    return jnp.where(fine, cotangent, 0), None


_with_fine_gradient.defvjp(_fine_forward, _fine_backward)


def guarded(value: Float[Array, ""], fine: Bool[Array, ""]) -> Float[Array, ""]:
    """The value; +inf, with a gradient of zero, where a number was bad."""
    return jnp.where(fine, value, jnp.inf)


def _like(there: Bool[Array, " B"], x: Array) -> Array:
    return jnp.reshape(there, (-1,) + (1,) * (x.ndim - 1))
