"""Optimizers: a schedule, clipping, and an update that spares what should not decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import optax

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import PyTree


@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a linear warm-up and a cosine to zero.

    learning_rate: at the end of the warm-up; warmup: the share of all steps that it takes, 0 to 1;
    clip: the largest norm of the whole gradient, None for none.
    Biases, norms, scales and single vectors do not decay.
    """

    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.1
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6
    clip: float | None = 1.0

    def __post_init__(self):
        if not 0 <= self.warmup <= 1:
            raise InputError(f"warmup={self.warmup}: give the share of all steps, from 0 to 1")
        for name in ("learning_rate", "eps"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}={getattr(self, name)}: give a positive number")
        if self.clip is not None and self.clip <= 0:
            raise InputError(f"clip={self.clip}: give a positive number, or None")

    def schedule(self, steps: int) -> optax.Schedule:
        """The learning rate of each step, 0 to steps - 1."""
        return optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, round(self.warmup * steps), max(steps, 1)
        )

    def transformation(self, steps: int, decays: PyTree) -> optax.GradientTransformation:
        """decays: the tree of parameters with a bool each, see `decaying`."""
        clip = optax.identity() if self.clip is None else optax.clip_by_global_norm(self.clip)
        adamw = optax.adamw(
            self.schedule(steps), self.b1, self.b2, self.eps, weight_decay=self.weight_decay, mask=decays
        )
        return optax.chain(clip, adamw)


def decaying(axes: PyTree) -> PyTree:
    """True for matrices and tables, by name and logical axes; that of stacked layers does not count."""

    def decays(path, names) -> bool:
        spared = path[-1].key == "bias" or path[-1].key.endswith("scale")
        return not spared and sum(name != "layers" for name in names) >= 2

    return jax.tree_util.tree_map_with_path(decays, axes, is_leaf=lambda x: isinstance(x, tuple))


KINDS = {"adamw": AdamW}
