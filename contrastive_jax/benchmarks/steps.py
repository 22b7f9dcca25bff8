"""`bench step`: the train step of a config, and how much of it is the loss."""

from __future__ import annotations

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.benchmarks.machine import footprint
from contrastive_jax.benchmarks.timing import clock, interleave
from contrastive_jax.distributed.mesh import by_example, replicated
from contrastive_jax.errors import InputError
from contrastive_jax.planning.collectives import sent_bytes
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.step import model_of

log = logging.getLogger(__name__)


def measure(experiment: Experiment, runs: int = 7) -> dict[str, Any]:
    """The figures of the compiled train step on a made-up batch, as `docs/benchmarks.md` describes them.

    `loss_share` is the time of all losses alone, forward and backward, on random embeddings of the same
    shapes, measured in turn with the step, over that of the step. Raises InputError for another mode than
    in core, whose step is several programs.
    """
    config, mesh = experiment.config, experiment.mesh
    if config.mode != "in_core":
        raise InputError(
            f"config.mode={config.mode}: what is measured is the step in core (--config.mode=in_core)"
        )
    with jax.set_mesh(mesh):
        batch = jax.device_put(made_up_batch(experiment), by_example(mesh))
        log.info("compiling the step")
        compiled = experiment.train_step().lower(experiment.state_structure, batch).compile()
        state = [experiment.initial_state()]

        def step():
            state[0], metrics = compiled(state[0], batch)
            return metrics

        log.info("compiling the losses alone")
        loss = _losses_alone(experiment, batch, jax.tree.map(jnp.copy, state[0].memory))
        log.info("%d runs", runs)
        seconds = interleave({"step": clock(step), "loss": clock(loss)}, runs)
    return {
        "batch": config.batch_size,
        "microbatch": config.microbatch,
        "mesh": dict(mesh.shape),
        "parameters": sum(x.size for x in jax.tree.leaves(experiment.state_structure.params)),
        "seconds": seconds["step"],
        "pairs_per_second": config.batch_size / seconds["step"],
        "loss_seconds": seconds["loss"],
        "loss_share": seconds["loss"] / seconds["step"],
        **footprint(compiled),
        "collective_bytes": sent_bytes(compiled.as_text(), mesh.size),
    }


def _losses_alone(experiment: Experiment, batch: dict[str, Any], memory: dict[str, Any]):
    """A call that computes every loss and its gradients, of embeddings that no encoder made."""
    graph, mesh = experiment.graph, experiment.mesh

    def embed(model, views):
        found = {}
        for name, branch in graph.branches.items():
            encoded = graph.encode(model, name, views[branch.view], train=False, key=None)
            found |= graph.stages(model, name, encoded, train=False, key=None)[0]
        return found

    state = experiment.state_structure
    shapes = jax.eval_shape(embed, model_of(state), batch["views"])
    rng = np.random.default_rng(0)
    embedded = {}
    for name, shape in shapes.items():
        z = rng.standard_normal(shape.shape, np.float32)
        z = (z / np.linalg.norm(z, axis=-1, keepdims=True)).astype(shape.dtype)
        embedded[name] = jax.device_put(z, by_example(mesh))
    params = {name: loss.init() for name, loss in experiment.losses.items()}
    params = jax.device_put(params, replicated(mesh))
    fields = dict(batch["fields"])
    for name in (name for name, branch in graph.branches.items() if branch.mix):
        partner, share = graph.mixing(jax.random.key(0), name, experiment.config.batch_size)
        fields |= {f"{name}.partner": partner, f"{name}.share": share}

    def total(params, embedded, fields, memory):
        seen, losses = embedded | graph.read({"memory": memory}), experiment.losses.items()
        values = [loss.weight * loss(params[name], seen, fields).value for name, loss in losses]
        return jnp.sum(jnp.stack(values))

    arguments = params, embedded, fields, memory
    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(*arguments).compile()
    return lambda: compiled(*arguments)
