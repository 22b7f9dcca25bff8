"""A predictor in closed form, from the correlation of what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.distributed.sharding import constrain
from contrastive_jax.encoders.architecture import rate
from contrastive_jax.encoders.head import Head
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Array, Bool, Float, Key


@dataclass(frozen=True)
class DirectPredictor(Head):
    """z W, with W from the running correlation F = U diag(s) U^T of the z; nothing is learned.

        W = U diag(p) U^T,   p_j = max(sqrt(max(s_j, 0) / max_k s_k) + eps, floor)
        W = F + eps I        with copy=True (DirectCopy)
        F <- rho F + (1 - rho) mean_i z_i z_i^T    after each branch of a batch of training

    W is symmetric, positive and commutes with F. It is made of the F before the branch, and is the identity
    before the first one, and gradients go through z alone. Of two branches with one predictor the second
    one's F has seen the first.

    Source: Tian et al. 2021, arXiv 2102.06810; DirectCopy: Wang et al. 2021, arXiv 2110.04947.

    Args:
        rho: the share of F that a batch leaves as it is.
        eps: added to p, or to the diagonal.
        floor: the least p.
        copy: W is F itself, which needs no eigenvalues.
    """

    rho: float = 0.3
    eps: float = 0.01
    floor: float = 1e-4
    copy: bool = False

    def __post_init__(self) -> None:
        rate("rho", self.rho)
        for key in ("eps", "floor"):
            if getattr(self, key) < 0:
                raise InputError(f"{key}={getattr(self, key)}: give 0 or more")

    def init(self, key: Key[Array, ""], example: Any) -> dict:
        return {}

    def logical_axes(self, example: Any) -> dict:
        return {}

    def statistics(self, example: Any) -> dict[str, Array]:
        """{"correlation": F}, [D, D]."""
        return {"correlation": jnp.zeros((example.shape[-1],) * 2, jnp.float32)}

    def apply(
        self,
        params: Any,
        x: Float[Array, "B D"],
        *,
        train: bool,
        key: Key[Array, "B"] | None,
        statistics: Mapping[str, Array] = {},
        turn: Bool[Array, ""] | bool = True,
    ) -> tuple[Float[Array, "B D"], dict[str, Array]]:
        statistics = {**self.statistics(x), **statistics}
        F = jax.lax.stop_gradient(statistics["correlation"])
        x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
        z = constrain(x @ self.predictor(F), ("batch", "features"))
        if train:
            own = jax.lax.stop_gradient(x)
            mean = jnp.einsum("bi,bj->ij", own, own, precision="highest") / len(own)
            statistics["correlation"] = (self.rho * F + (1 - self.rho) * mean).astype(F.dtype)
        return z, statistics

    def predictor(self, F: Float[Array, "D D"]) -> Float[Array, "D D"]:
        """W of a symmetric F; the identity where F is 0."""
        identity = jnp.eye(len(F), dtype=F.dtype)
        if self.copy:
            return jnp.where(F.any(), F + self.eps * identity, identity)
        s, U = jnp.linalg.eigh(F)
        share = jnp.maximum(s, 0) / jnp.where(s[-1] > 0, s[-1], 1)
        p = jnp.maximum(jnp.sqrt(share) + self.eps, self.floor)
        W = jnp.matmul(U * p, U.T, precision="highest")
        return jnp.where(s[-1] > 0, W, identity)
