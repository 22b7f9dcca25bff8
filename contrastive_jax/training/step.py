"""The train step: a pure function of the state and the batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from contrastive_jax.branches import Graph, mixed
from contrastive_jax.errors import InputError
from contrastive_jax.losses.in_batch import in_batch_accuracy
from contrastive_jax.training.microbatch import encode
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.trainable import BESIDE, EVERYTHING, Trainable, join

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Key, PyTree

    from contrastive_jax.losses.loss import ConfiguredLoss


class Found(NamedTuple):
    """What a step finds out beside the loss: metrics, and the next statistics and memories."""

    metrics: dict[str, Array]
    statistics: PyTree
    memory: PyTree


def model_of(state: TrainState, params: PyTree | None = None) -> dict[str, PyTree]:
    """The parameters, or these in their place, and what stands beside them; see `branches`."""
    beside = {name: getattr(state, name) for name in BESIDE}
    return {**(state.params if params is None else params), **beside}


def encode_branches(
    graph: Graph,
    model: PyTree,
    views: Mapping[str, Array],
    key: Key[Array, ""],
    microbatch: int | None,
    positions: Int[Array, " B"] | None = None,
    names: Iterable[str] | None = None,
) -> dict[str, Float[Array, "B *K H"]]:
    """What the encoder of every branch makes of the examples.

    key: of the step; positions: the examples' places in the global batch, None for the whole of it;
    names: of these branches only.
    """
    result = {}
    for name in graph.branches if names is None else names:
        branch = graph.branches[name]
        view = views[branch.view]
        if branch.mix is not None:
            view = mixed(view, views[branch.mix], *graph.mixing(key, name, len(view)))
        result[name] = encode(
            lambda view, keys, name=name: graph.encode(model, name, view, train=True, key=keys),
            view,
            graph.keys(key, name, jnp.arange(len(view)) if positions is None else positions),
            microbatch,
        )
    return result


def loss_of_encoded(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    model: PyTree,
    encoded: Mapping[str, Float[Array, "B *K H"]],
    fields: Mapping[str, Array],
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Found]:
    """The weighted sum of all losses, and what else is found; metrics are called "loss name/metric".

    encoded: what `encode_branches` gave; of `model` all is read but encoders and adapters.
    """
    embedded, statistics = {}, dict(model.get("statistics", {}))
    for name, rows in encoded.items():
        stages, changed = graph.stages({**model, "statistics": statistics}, name, rows, train=True, key=key)
        embedded, statistics = embedded | stages, statistics | changed
        if graph.branches[name].mix is not None:
            partner, share = graph.mixing(key, name, len(rows))
            fields = {**fields, f"{name}.partner": partner, f"{name}.share": share}
    seen = embedded | graph.read(model)
    value, metrics = jnp.zeros(()), {}
    for name, loss in losses.items():
        try:
            result = loss(model["losses"][name], seen, fields)
        except ValueError as error:  # shapes that do not fit, which only tracing finds
            raise InputError(f"config.losses.{name}: {error}") from error
        value += loss.weight * result.value
        metrics |= {f"{name}/{k}": v for k, v in result.metrics.items()}
        if pairing := loss.pairing(seen, fields):
            keys = f"{name}/in_batch_accuracy", f"{name}/in_batch_chance"
            metrics |= dict(zip(keys, in_batch_accuracy(*pairing)))
        if len(losses) > 1:
            metrics[f"{name}/loss"] = result.value
    return value, Found(metrics, statistics, graph.write(model, embedded, fields))


def total_loss(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    model: PyTree,
    batch: Mapping[str, Any],
    key: Key[Array, ""],
    microbatch: int | None,
) -> tuple[Float[Array, ""], Found]:
    """`loss_of_encoded` of a batch that lies in memory whole; `model` with all adapters merged."""
    encoded = encode_branches(graph, model, batch["views"], key, microbatch)
    return loss_of_encoded(graph, losses, model, encoded, batch["fields"], key)


def gradients(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    model: PyTree,
    batch: Mapping[str, Any],
    key: Key[Array, ""],
    microbatch: int | None,
    trainable: Trainable = EVERYTHING,
) -> tuple[tuple[Float[Array, ""], Found], PyTree]:
    """(`total_loss`, its gradient with respect to what is trained, None in the places of the rest)."""
    trained, rest = trainable.split(model)

    def objective(trained):
        return total_loss(graph, losses, trainable.merged(join(trained, rest)), batch, key, microbatch)

    found, gradient = jax.value_and_grad(objective, has_aux=True)(trained)
    return found, {name: part for name, part in gradient.items() if name not in BESIDE}


def updated(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    optimizer: optax.GradientTransformation,
    state: TrainState,
    gradient: PyTree,
    found: Found,
    trainable: Trainable = EVERYTHING,
    steps: int = 1,
) -> TrainState:
    """The next state: one update of the optimizer, the losses' parameters within their bounds, then one of
    the teachers.

    gradient: of what is trained, as `Trainable.split` cuts it out; steps: of the whole run.
    """
    trained, rest = trainable.split(state.params)
    updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
    params = join(optax.apply_updates(trained, updates), rest)
    projected = {name: loss.project(params["losses"][name]) for name, loss in losses.items()}
    trained, _ = trainable.split({**params, "losses": projected})
    params = join(trained, rest)
    return state._replace(
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        teachers=graph.follow(state.teachers, trainable.merged(params), state.step, steps),
        statistics=found.statistics,
        memory=found.memory,
    )


def unless_bad(new: TrainState, old: TrainState, metrics: Mapping[str, Array]) -> TrainState:
    """`new`; where the step's loss or gradient norm is not finite `old`, with the step counted."""
    fine = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
    chosen = {
        name: jax.tree.map(lambda a, b: jnp.where(fine, a, b), getattr(new, name), getattr(old, name))
        for name in ("params", "opt_state", *BESIDE)
    }
    return new._replace(**chosen)


def train_step(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    optimizer: optax.GradientTransformation,
    microbatch: int | None,
    state: TrainState,
    batch: Mapping[str, Any],
    trainable: Trainable = EVERYTHING,
    steps: int = 1,
    skip_bad: bool = False,
) -> tuple[TrainState, dict[str, Array]]:
    """One update; bind the first four arguments and it is `(state, batch) -> (state, metrics)`.

    batch: {"views": {name: [B, ...]}, "fields": {name: [B]}}; steps: of the whole run, for schedules;
    skip_bad: see `unless_bad`.
    Metrics are scalars, `loss` and `gradient_norm` (before clipping, of what is trained) among them; both are
    of the parameters before the update.
    """
    key = jax.random.fold_in(state.key, state.step)
    (value, found), gradient = gradients(graph, losses, model_of(state), batch, key, microbatch, trainable)
    metrics = found.metrics | {"loss": value, "gradient_norm": optax.tree.norm(gradient)}
    new = updated(graph, losses, optimizer, state, gradient, found, trainable, steps)
    return unless_bad(new, state, metrics) if skip_bad else new, metrics
