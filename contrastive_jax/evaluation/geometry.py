"""How embeddings lie on the sphere: near their partners, evenly, in how many directions."""

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
from contrastive_jax.evaluation.columns import labels, numbered
from contrastive_jax.evaluation.labelled import unit_rows
from contrastive_jax.evaluation.nearest import dots, shared_out
from contrastive_jax.similarity import Scores, Weighted, expectation, logsumexp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from contrastive_jax.evaluation.embedding import Embedder


@dataclass(frozen=True)
class Geometry:
    """How the embeddings of one branch, and of two, lie in space. All but the last expect unit length.

    - `alignment`: the mean squared distance of a record's two embeddings; lower is nearer.
    - `modality_gap`: the distance between the mean embeddings of the two branches.
    - `uniformity/branch`: the logarithm of the mean of exp(-2 |x - y|^2) over the pairs of different records;
      lower is more even.
    - `tolerance/branch`, with a `label`: the mean of x . y over the pairs of different records of one class.
    - `effective_rank/branch`: exp of the entropy of the embeddings' singular values as shares of their sum,
      from 1, a line, to their size.
    - `std/branch`: the standard deviation of each number of the embeddings, brought to unit length here, its
      mean over their size d, as a share of 1 / sqrt(d): about 1 where they lie all around, 0 where they have
      collapsed into one.
    - `penalty_entropy/branch`, with a `temperature`: the entropy of how the other records share the penalty
      of being near a record, r_ij = exp(x_i . x_j / t) / sum_{k != i} exp(x_i . x_k / t), the mean over i
      and as a share of log(n - 1): 1 where all are pushed away alike, 0 where only the nearest is.

    rows, columns: branches; without `columns`, the figures of one.

    Sources: Wang and Isola 2020, arXiv 2005.10242 (alignment, uniformity); Liang et al. 2022, arXiv
    2203.02053 (modality gap); Wang and Liu 2021, arXiv 2012.09740 (tolerance, penalties); Roy and Vetterli
    2007, and Garrido et al. 2023, arXiv 2210.02885 (effective rank); Chen and He 2021, arXiv 2011.10566
    (std).
    """

    rows: str
    columns: str | None = None
    source: str | None = None
    label: str | None = None
    temperature: float | None = None

    def __post_init__(self):
        if self.temperature is not None and self.temperature <= 0:
            raise InputError(f"temperature={self.temperature}: give a number above 0, or None")

    @property
    def branches(self) -> tuple[str, ...]:
        return (self.rows,) if self.columns is None else (self.rows, self.columns)

    @property
    def fields(self) -> tuple[str, ...]:
        return () if self.label is None else (self.label,)

    @property
    def sources(self) -> tuple[str | None, ...]:
        return (self.source,)

    def run(self, embed: Embedder, source: Source) -> Iterator[tuple[str, float]]:
        if len(source) < 2:
            raise InputError(f"{source.name} has one record: uniformity is of pairs, give two or more")
        found = {name: embed(name, source) for name in self.branches}
        if self.columns is not None:
            a, b = found[self.rows], found[self.columns]
            yield "alignment", float(np.mean(np.sum((a - b) ** 2, axis=1)))
            yield "modality_gap", float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))
        classes = None if self.label is None else numbered(labels(source, self.label))[1]
        for name, z in found.items():
            with jax.set_mesh(embed.mesh):
                placed = place_everywhere(embed.mesh, z)
                yield f"uniformity/{name}", float(jax.jit(uniformity)(placed))
            if classes is not None:
                yield f"tolerance/{name}", tolerance(z, classes, source.name)
            yield f"effective_rank/{name}", effective_rank(z)
            yield f"std/{name}", relative_std(z)
            if self.temperature is not None:
                if len(z) < 3:
                    raise InputError(f"{source.name} has two records: temperature is of shares, give three")
                with jax.set_mesh(embed.mesh):
                    entropy = jax.jit(penalty_entropy)(placed, self.temperature)
                yield f"penalty_entropy/{name}", float(entropy) / float(np.log(len(z) - 1))


def tolerance(z: Float[np.ndarray, "n d"], classes: Int[np.ndarray, " n"], name: str = "the source") -> float:
    """mean_{i != j, l_i = l_j} z_i . z_j, from the classes' sums: |sum z|^2 is the sum over all pairs.

    Raises InputError where no two records share a class.
    """
    z = np.asarray(z, np.float64)
    sizes = np.bincount(classes)
    sums = np.zeros((len(sizes), z.shape[1]))
    np.add.at(sums, classes, z)
    pairs = int(np.sum(sizes * (sizes - 1)))
    if not pairs:
        raise InputError(f"{name}: no two records share a class; tolerance is of such pairs")
    return float((np.sum(sums**2) - np.sum(z**2)) / pairs)


def effective_rank(z: Float[np.ndarray, "n d"]) -> float:
    """exp(-sum p_k log p_k) with p_k = s_k / sum s, of the singular values s of z, which is not centred."""
    values = np.linalg.svd(np.asarray(z, np.float64), compute_uv=False)
    shares = values[values > 0] / max(values.sum(), 1e-300)
    return float(np.exp(-np.sum(shares * np.log(shares))))


def relative_std(z: Float[np.ndarray, "n d"]) -> float:
    """sqrt(d) mean_k std_i(z_ik / |z_i|): how far from one point."""
    return float(unit_rows(np.asarray(z, np.float64)).std(axis=0).mean() * np.sqrt(z.shape[1]))


def penalty_entropy(z: Float[Array, "n d"], temperature: Float[Array, ""]) -> Float[Array, ""]:
    """mean_i -sum_{j != i} r_ij log r_ij, r the softmax of z_i . z_j / temperature, without an n x n matrix:
    the log-sum-exp of a row less its mean logit under r."""
    record, shared = {"z": z, "position": jnp.arange(len(z))}, {"temperature": temperature}
    row_lse, _ = logsumexp(_penalties, record, record, shared, **shared_out())
    mean = expectation(lambda *sides: _weighted(_penalties(*sides)), record, record, shared, **shared_out())
    return jnp.mean(row_lse - mean)


def uniformity(z: Float[Array, "n d"]) -> Float[Array, ""]:
    """log mean_{i != j} exp(-2 |z_i - z_j|^2), without an n x n matrix."""
    record = {"z": z, "square": jnp.sum(z * z, axis=1), "position": jnp.arange(len(z))}
    row_lse, _ = logsumexp(_distances, record, record, **shared_out())
    return jax.nn.logsumexp(row_lse) - jnp.log(len(z) * (len(z) - 1.0))


def _distances(rows, columns, shared) -> Scores:
    squared = rows["square"][:, None] + columns["square"][None, :] - 2 * dots(rows["z"], columns["z"])
    return Scores(-2 * squared, rows["position"][:, None] != columns["position"][None, :])


def _penalties(rows, columns, shared) -> Scores:
    logits = dots(rows["z"], columns["z"]) / shared["temperature"]
    return Scores(logits, rows["position"][:, None] != columns["position"][None, :])


def _weighted(scores: Scores) -> Weighted:
    return Weighted(scores.logits, scores.logits, scores.mask)
