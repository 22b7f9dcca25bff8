"""The train step: a pure function of the state and the batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from contrastive_jax.branches import Graph
from contrastive_jax.training.microbatch import encode
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.trainable import EVERYTHING, Trainable, join

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Key, PyTree

    from contrastive_jax.losses.loss import ConfiguredLoss


def encode_branches(
    graph: Graph,
    params: PyTree,
    views: Mapping[str, Array],
    key: Key[Array, ""],
    microbatch: int | None,
    positions: Int[Array, " B"] | None = None,
    names: Iterable[str] | None = None,
) -> dict[str, Float[Array, "B H"]]:
    """What the encoder of every branch makes of the examples.

    key: of the step; positions: the examples' places in the global batch, None for the whole of it;
    names: of these branches only.
    """
    result = {}
    for name in graph.branches if names is None else names:
        view = views[graph.branches[name].view]
        result[name] = encode(
            lambda view, keys, name=name: graph.encode(params, name, view, train=True, key=keys),
            view,
            graph.keys(key, name, jnp.arange(len(view)) if positions is None else positions),
            microbatch,
        )
    return result


def loss_of_encoded(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    params: PyTree,
    encoded: Mapping[str, Float[Array, "B H"]],
    fields: Mapping[str, Array],
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The weighted sum of all losses, and their metrics as "loss name/metric".

    encoded: what `encode_branches` gave; of `params` only the heads' and the losses' are read.
    """
    embedded = {}
    for name, rows in encoded.items():
        keys = graph.keys(key, name, jnp.arange(len(rows)))
        embedded[name] = graph.finish(params, name, rows, train=True, key=keys)
    value, metrics = jnp.zeros(()), {}
    for name, loss in losses.items():
        result = loss(params["losses"][name], embedded, fields)
        value += loss.weight * result.value
        metrics |= {f"{name}/{k}": v for k, v in result.metrics.items()}
        if len(losses) > 1:
            metrics[f"{name}/loss"] = result.value
    return value, metrics


def total_loss(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    params: PyTree,
    batch: Mapping[str, Any],
    key: Key[Array, ""],
    microbatch: int | None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """`loss_of_encoded` of a batch that lies in memory whole; `params` with all adapters merged."""
    encoded = encode_branches(graph, params, batch["views"], key, microbatch)
    return loss_of_encoded(graph, losses, params, encoded, batch["fields"], key)


def gradients(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    params: PyTree,
    batch: Mapping[str, Any],
    key: Key[Array, ""],
    microbatch: int | None,
    trainable: Trainable = EVERYTHING,
) -> tuple[tuple[Float[Array, ""], dict[str, Array]], PyTree]:
    """(`total_loss`, its gradient with respect to what is trained, None in the places of the rest)."""
    trained, rest = trainable.split(params)

    def objective(trained):
        return total_loss(graph, losses, trainable.merged(join(trained, rest)), batch, key, microbatch)

    return jax.value_and_grad(objective, has_aux=True)(trained)


def updated(
    losses: Mapping[str, ConfiguredLoss],
    optimizer: optax.GradientTransformation,
    state: TrainState,
    gradient: PyTree,
    trainable: Trainable = EVERYTHING,
) -> TrainState:
    """The next state: one update of the optimizer, then the losses' parameters within their bounds.

    gradient: of what is trained, as `Trainable.split` cuts it out.
    """
    trained, rest = trainable.split(state.params)
    updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
    params = join(optax.apply_updates(trained, updates), rest)
    projected = {name: loss.project(params["losses"][name]) for name, loss in losses.items()}
    trained, _ = trainable.split({**params, "losses": projected})
    return state._replace(step=state.step + 1, params=join(trained, rest), opt_state=opt_state)


def train_step(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    optimizer: optax.GradientTransformation,
    microbatch: int | None,
    state: TrainState,
    batch: Mapping[str, Any],
    trainable: Trainable = EVERYTHING,
) -> tuple[TrainState, dict[str, Array]]:
    """One update; bind the first four arguments and it is `(state, batch) -> (state, metrics)`.

    batch: {"views": {name: [B, ...]}, "fields": {name: [B]}}. Metrics are scalars, `loss` and
    `gradient_norm` (before clipping, of what is trained) among them; both are of the parameters before the
    update.
    """
    key = jax.random.fold_in(state.key, state.step)
    (value, metrics), gradient = gradients(graph, losses, state.params, batch, key, microbatch, trainable)
    metrics |= {"loss": value, "gradient_norm": optax.tree.norm(gradient)}
    return updated(losses, optimizer, state, gradient, trainable), metrics
