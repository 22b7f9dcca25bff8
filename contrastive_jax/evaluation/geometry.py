"""How embeddings lie on the sphere: alignment of pairs, uniformity of each branch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.distributed.rows import place_everywhere
from contrastive_jax.errors import InputError
from contrastive_jax.similarity import Scores, logsumexp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class Geometry:
    """Alignment: the mean squared distance of a record's two embeddings. Uniformity: the logarithm of the
    mean of exp(-2 |x - y|^2) over the pairs of different records; lower is more even.

    rows, columns: branches. Source: Wang and Isola 2020, arXiv 2005.10242.
    """

    rows: str
    columns: str
    source: str | None = None

    @property
    def branches(self) -> tuple[str, ...]:
        return self.rows, self.columns

    @property
    def fields(self) -> tuple[str, ...]:
        return ()

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        if len(source) < 2:
            raise InputError(f"{source.name} has one record: uniformity is of pairs, give two or more")
        a, b = embed(self.rows, source), embed(self.columns, source)
        yield "alignment", float(np.mean(np.sum((a - b) ** 2, axis=1)))
        with jax.set_mesh(embed.mesh):
            for name, z in ((self.rows, a), (self.columns, b)):
                z = place_everywhere(embed.mesh, z)
                yield f"uniformity/{name}", float(jax.jit(uniformity)(z))


def uniformity(z: Float[Array, "n d"]) -> Float[Array, ""]:
    """log mean_{i != j} exp(-2 |z_i - z_j|^2), without an n x n matrix."""
    record = {"z": z, "square": jnp.sum(z * z, axis=1), "position": jnp.arange(len(z))}
    row_lse, _ = logsumexp(_distances, record, record)
    return jax.nn.logsumexp(row_lse) - jnp.log(len(z) * (len(z) - 1.0))


def _distances(rows, columns, shared) -> Scores:
    squared = rows["square"][:, None] + columns["square"][None, :] - 2 * rows["z"] @ columns["z"].T
    return Scores(-2 * squared, rows["position"][:, None] != columns["position"][None, :])
