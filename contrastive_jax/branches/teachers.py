"""Teachers: copies of a branch's parameters that follow them slowly and have no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree


@dataclass(frozen=True)
class Teacher:
    """An exponential moving average of the encoder and the heads of a branch.

        teacher <- m teacher + (1 - m) branch        once after each update of the optimizer

    It begins as a copy; m = 1 leaves it that, m = 0 makes it the branch itself, without a gradient.

    branch: whose; stage: the last of its heads that is copied, `encoder` for none, None for all (a predictor
    stays out); momentum: m at the first step; final: m at the last step, reached along a half cosine (BYOL,
    MoCo v3), None for a constant m; train: whether it draws dropout and takes batch statistics as training
    does, or is used as evaluation does.

    Sources: He et al. 2019, arXiv 1911.05722; Grill et al. 2020, arXiv 2006.07733.
    """

    branch: str
    stage: str | None = None
    momentum: float = 0.99
    final: float | None = None
    train: bool = True

    def __post_init__(self) -> None:
        for name in ("momentum", "final"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name}={value}: give a number from 0 to 1")

    def momentum_at(self, step: Int[Array, ""] | int, steps: int) -> Float[Array, ""] | float:
        """m of the update that ends step `step`, 0 to steps - 1."""
        if self.final is None:
            return self.momentum
        share = jnp.clip(step / max(steps - 1, 1), 0, 1)
        return self.final - (self.final - self.momentum) * (jnp.cos(jnp.pi * share) + 1) / 2

    def follow(self, copy: PyTree, original: PyTree, step: Int[Array, ""] | int, steps: int) -> PyTree:
        """The copy after the update of step `step`."""
        m = self.momentum_at(step, steps)
        return jax.tree.map(lambda old, new: (m * old + (1 - m) * new).astype(old.dtype), copy, original)
