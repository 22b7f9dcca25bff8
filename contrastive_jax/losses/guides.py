"""False negatives found by a guide: another encoder that thinks a pair closer than the positive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.losses.pairs import relation
from contrastive_jax.similarity import Dot, Scores, cross_entropy
from contrastive_jax.similarity.tiles import products

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

ROUNDING = 1e-5  # the same product, added up in another order


def attach_guide(
    sides: tuple[dict, dict],
    guide: tuple[Float[Array, "R g"], Float[Array, "C g"]],
    margin: float,
    engine: Mapping[str, Any],
) -> None:
    """Adds to both records the guide's embedding and the similarity beyond which a pair is no negative.

    That is the guide's similarity of the example's own positive (the mean, where it has several) plus
    the margin. Raises ValueError for embeddings that do not fit.
    """
    for side, z in zip(sides, guide, strict=True):
        if z.ndim != 2 or len(z) != len(side["embedding"]) or z.shape[1] != guide[0].shape[1]:
            raise ValueError(
                f"the guide has shapes {[x.shape for x in guide]} beside embeddings "
                f"{[s['embedding'].shape for s in sides]}: give one vector an example"
            )
        side["guide"] = jax.lax.stop_gradient(z)
    labels = ("id", "ignore", "present", "guide")
    sums = cross_entropy(
        Dot(_guide_scores, embedding="guide"), *({k: s[k] for k in labels if k in s} for s in sides), **engine
    )
    for side, target, mass in (
        (sides[0], sums.row_target, sums.row_mass),
        (sides[1], sums.column_target, sums.column_mass),
    ):
        mean = target / jnp.where(mass > 0, mass, 1)
        side["threshold"] = jax.lax.stop_gradient(jnp.where(mass > 0, mean, 0) + margin + ROUNDING)


def false_negative(rows: dict[str, Array], columns: dict[str, Array]) -> Bool[Array, "r c"]:
    """Where the guide finds a pair more alike than it found the row's positive.

    It knows nothing of columns marked `extra`.
    """
    similarity = products(rows["guide"], columns["guide"])
    found = similarity > rows["threshold"][:, None]
    return found & ~columns["extra"][None, :] if "extra" in columns else found


def _guide_scores(dots, rows, columns, shared) -> Scores:
    positive, mask = relation(rows, columns)
    return Scores(dots, mask, positive)
