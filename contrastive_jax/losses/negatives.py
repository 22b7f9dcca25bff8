"""Further columns that are nobody's positive: hard negatives of the batch, and memories of earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from contrastive_jax.similarity import Extra

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def further_columns(
    columns: dict[str, Array],
    negatives: Float[Array, "R K d"] | Float[Array, "N d"] | None = None,
    memory: Float[Array, "N d"] | None = None,
) -> tuple[dict[str, Array], list[Extra]]:
    """The batch's columns, and the further ones as the engine takes them, with the same records.

    negatives: of this batch, so with gradient, and sharded as the batch is; memory: alike on every
    device, without gradient. Raises ValueError for another width than the columns'.
    """
    blocks = []
    for name, block in (("negatives", negatives), ("memory", memory)):
        if block is None:
            continue
        width = columns["embedding"].shape[-1]
        if block.ndim not in (2, 3) or block.shape[-1] != width:
            raise ValueError(f"{name} has shape {block.shape}: give [N, {width}] or [R, K, {width}]")
        block = jnp.reshape(block, (-1, width)).astype(columns["embedding"].dtype)
        blocks.append((block, True) if name == "negatives" else (jax.lax.stop_gradient(block), False))
    if not blocks:
        return columns, []
    batch = {**columns, "extra": jnp.zeros(len(columns["embedding"]), bool)}
    return batch, [Extra(_nobodys(columns, block), sharded) for block, sharded in blocks]


def _nobodys(columns: dict[str, Array], block: Array) -> dict[str, Array]:
    """Records of columns that match nothing and are present everywhere."""
    others = {
        name: jnp.full((len(block), *leaf.shape[1:]), name == "present", leaf.dtype)
        for name, leaf in columns.items()
        if name != "embedding"
    }
    return {"embedding": block, **others, "extra": jnp.ones(len(block), bool)}
