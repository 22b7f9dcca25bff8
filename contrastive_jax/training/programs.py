"""The programs that a step of a config runs, with what lies on the devices meanwhile: from shapes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.distributed.mesh import by_example, replicated
from contrastive_jax.training.pieces import towers
from contrastive_jax.training.step import model_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import PyTree

    from contrastive_jax.training.experiment import Experiment


@dataclass(frozen=True)
class Program:
    """A jitted function and the structures that it is called with.

    runs: how often in a step; live: everything that lies on the devices while it runs, arguments included.
    """

    name: str
    function: Callable
    arguments: tuple
    runs: int
    live: Any


def programs(experiment: Experiment) -> list[Program]:
    """Those of the config's mode, in the order in which a step runs them."""
    return _out_of_core(experiment) if experiment.config.mode == "out_of_core" else _in_core(experiment)


def device_bytes(structures: PyTree) -> int:
    """Bytes of a device's shards of arrays that are described with their shardings."""

    def one(x) -> int:
        shape = x.sharding.shard_shape(x.shape) if x.sharding is not None else x.shape
        return math.prod(shape) * x.dtype.itemsize

    return sum(map(one, jax.tree.leaves(structures)))


def batch_structure(experiment: Experiment, size: int) -> dict[str, Any]:
    """`size` examples as the pipeline gives them, placed as the loop places them."""
    rows = by_example(experiment.mesh)
    views = {name: _placed(view, rows) for name, view in experiment.graph.inputs(size).items()}
    fields = {name: jax.ShapeDtypeStruct((size,), jnp.int32, sharding=rows) for name in experiment.fields}
    return {"views": views, "fields": fields}


def _in_core(experiment: Experiment) -> list[Program]:
    """One program; the next batch is placed while it runs."""
    state = experiment.state_structure
    batch = batch_structure(experiment, experiment.config.batch_size)
    return [Program("train_step", experiment.train_step(), (state, batch), 1, (state, batch, batch))]


def _out_of_core(experiment: Experiment) -> list[Program]:
    """As `OutOfCore` runs them: the next piece is placed while one is worked on."""
    step, cut, state = experiment.out_of_core_step, experiment.cut, experiment.state_structure
    everywhere, params, model = replicated(experiment.mesh), state.params, model_of(state)
    kept, pulled = step.structures(model)
    piece = batch_structure(experiment, cut.shards * cut.microbatch)["views"]
    fields = batch_structure(experiment, cut.batch_size)["fields"]
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    with jax.set_mesh(experiment.mesh):
        (value, found), (own, _) = jax.eval_shape(step.loss, model, kept.encoded, fields, state.key)
    value, metrics = jax.tree.map(lambda x: _placed(x, everywhere), (value, found.metrics))
    found = found._replace(metrics=metrics, statistics=state.statistics, memory=state.memory)
    placed, _ = experiment.trainable.split({k: params[k] for k in own})
    own = jax.tree.map(lambda x, like: _placed(x, like.sharding), own, placed)
    embed = model, kept, piece, state.key, number
    loss = model, kept.encoded, fields, state.key
    pull = towers(params), pulled, kept.prints, kept.encoded, piece, state.key, number
    update = state, pulled, own, value, found
    return [
        Program("empty", step.empty, (), 1, state),
        Program("embed", step.embed, embed, cut.count, (state, kept, pulled, piece, piece)),
        Program("loss", step.loss, loss, 1, (state, kept, pulled, fields)),
        Program("pull_back", step.pull_back, pull, cut.count, (state, kept, pulled, own, piece, piece)),
        Program("update", step.update, update, 1, update),
    ]


def _placed(x, sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
