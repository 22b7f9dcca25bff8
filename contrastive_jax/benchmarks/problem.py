"""What is measured: a loss of a batch, its data, and what is right."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from contrastive_jax.benchmarks import reference
from contrastive_jax.benchmarks.batches import hard_negatives

if TYPE_CHECKING:
    from jaxtyping import Float32

_SCALES = {"softmax": 1 / 0.07, "sigmoid": 10.0}


@dataclasses.dataclass(frozen=True)
class Problem:
    """The loss of `batch` pairs of embeddings of `dim` numbers, forward and backward.

    scale: None is what training starts from. The sigmoid loss's bias is -10.
    """

    batch: int
    dim: int
    loss: str = "softmax"
    dtype: str = "float32"
    scale: float | None = None
    bias: float = -10.0

    def __post_init__(self) -> None:
        if self.scale is None:
            object.__setattr__(self, "scale", _SCALES[self.loss])

    @property
    def scalars(self) -> tuple[float, ...]:
        """What the loss learns besides the embeddings."""
        return (self.scale,) if self.loss == "softmax" else (self.scale, self.bias)

    def embeddings(self) -> tuple[Float32[np.ndarray, "B d"], Float32[np.ndarray, "B d"]]:
        """Rows and columns, float32 whatever the dtype, which holds these numbers exactly."""
        both = hard_negatives(self.batch, self.dim)
        return tuple(z.astype(jnp.dtype(self.dtype)).astype(np.float32) for z in both)

    def at_most(self, batch: int) -> Problem:
        """The same of no more than so many pairs."""
        return dataclasses.replace(self, batch=min(self.batch, batch))

    def right(self, of_unit_length: bool = False) -> reference.Gradients:
        """The loss and its gradients in float64."""
        return _right(self, of_unit_length)

    def products(self, kept: bool = False) -> int:
        """Of these the FLOPs are B^2 d: 2 for the logits and 2 for each gradient, and for softmax, which
        must know its sums before it can have a gradient, 2 for the logits again unless they were kept."""
        return 8 if self.loss == "softmax" and not kept else 6

    def flops(self, kept: bool = False) -> int:
        return self.products(kept) * self.batch**2 * self.dim


@functools.lru_cache(maxsize=2)
def _right(problem: Problem, of_unit_length: bool) -> reference.Gradients:
    loss = {"softmax": reference.softmax, "sigmoid": reference.sigmoid}[problem.loss]
    if of_unit_length:
        return reference.of_unit_length(loss, *problem.embeddings(), *problem.scalars)
    return loss(*problem.embeddings(), *problem.scalars)
