"""The train step: a pure function of the state and the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from contrastive_jax.branches import Graph
from contrastive_jax.training.microbatch import encode
from contrastive_jax.training.state import TrainState

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key, PyTree

    from contrastive_jax.losses.loss import ConfiguredLoss


def embeddings(
    graph: Graph, params: PyTree, views: Mapping[str, Array], key: Key[Array, ""], microbatch: int | None
) -> dict[str, Float[Array, "B d"]]:
    """The training embedding of every branch, of the global batch."""
    result = {}
    for name, branch in graph.branches.items():
        view = views[branch.view]
        keys = graph.keys(key, name, jnp.arange(len(view)))
        encoded = encode(
            lambda view, keys, name=name: graph.encode(params, name, view, train=True, key=keys),
            view,
            keys,
            microbatch,
        )
        result[name] = graph.finish(params, name, encoded, train=True, key=keys)
    return result


def total_loss(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    params: PyTree,
    batch: Mapping[str, Any],
    key: Key[Array, ""],
    microbatch: int | None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The weighted sum of all losses, and their metrics as "loss name/metric"."""
    embedded = embeddings(graph, params, batch["views"], key, microbatch)
    value, metrics = jnp.zeros(()), {}
    for name, loss in losses.items():
        result = loss(params["losses"][name], embedded, batch["fields"])
        value += loss.weight * result.value
        metrics |= {f"{name}/{k}": v for k, v in result.metrics.items()}
        if len(losses) > 1:
            metrics[f"{name}/loss"] = result.value
    return value, metrics


def train_step(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    optimizer: optax.GradientTransformation,
    microbatch: int | None,
    state: TrainState,
    batch: Mapping[str, Any],
) -> tuple[TrainState, dict[str, Array]]:
    """One update; bind the first four arguments and it is `(state, batch) -> (state, metrics)`.

    batch: {"views": {name: [B, ...]}, "fields": {name: [B]}}. Metrics are scalars, `loss` and
    `gradient_norm` (before clipping) among them; both are of the parameters before the update.
    """
    key = jax.random.fold_in(state.key, state.step)

    def objective(params):
        return total_loss(graph, losses, params, batch, key, microbatch)

    (value, metrics), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    projected = {name: loss.project(params["losses"][name]) for name, loss in losses.items()}
    state = state._replace(step=state.step + 1, params={**params, "losses": projected}, opt_state=opt_state)
    return state, {"loss": value, "gradient_norm": optax.tree.norm(gradients), **metrics}
