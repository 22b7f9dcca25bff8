"""Which records of a step's batch a model makes numbers of that are not finite."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.data.examples import Steps
from contrastive_jax.distributed.mesh import batch_shards, replicated
from contrastive_jax.distributed.processes import Group
from contrastive_jax.distributed.rows import place
from contrastive_jax.losses.pairs import LARGEST

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, PyTree

    from contrastive_jax.training.checkpoint import Checkpoints
    from contrastive_jax.training.experiment import Experiment
    from contrastive_jax.training.state import TrainState

log = logging.getLogger(__name__)

_MOST = 5


class Suspected(NamedTuple):
    """keys: of the first few records; count: how many there are, of all in the batch."""

    keys: list[str]
    count: int
    batch: int

    def __str__(self) -> str:
        if not self.count:
            return "all embeddings of the batch are finite, so no one record is to blame"
        if not self.named:
            return f"{self.count} of {self.batch} records have no finite embedding: the weights are to blame"
        more = f" and {self.count - len(self.keys)} more" if self.count > len(self.keys) else ""
        return f"no finite embedding has {', '.join(map(repr, self.keys))}{more}"

    @property
    def named(self) -> list[str]:
        """The keys, if it is these records that are to blame."""
        return [] if 2 * self.count > self.batch else self.keys


class Suspects:
    """suspects(step, model): the records of that step's batch whose embeddings are not finite, or too large
    for a loss.

    The batch is read again, as it was, and embedded without what training draws and without what the
    examples of a batch share (batch statistics): one bad example would make all others bad. All processes
    call this together, and get the same.

    views: bound to the tokenizer; step: from 1; model: see `Experiment.model`.
    """

    def __init__(self, experiment: Experiment, views: Mapping[str, Any], group: Group) -> None:
        self.experiment, self.views, self.group = experiment, views, group

    def __call__(self, step: int, model: PyTree) -> Suspected:
        experiment, mesh = self.experiment, self.experiment.mesh
        config, source = experiment.config, experiment.source
        share = config.batch_size // batch_shards(mesh)
        cut = dataclasses.replace(experiment.cut, microbatch=config.microbatch or share)
        rows, parts = cut.local_rows(mesh), (source, experiment.sampler, self.views, {})
        again = Steps(*parts, config.seed, config.steps, rows, readings=2, skip=experiment.skipped)
        found: list[str] = []
        for piece in range(cut.count):
            # As the second reading, which logs nothing.
            batch, drawn = again.drawn((step - 1) * again.a_step + cut.count + piece)
            placed = place(mesh, cut.shards * cut.microbatch, batch["views"])
            for branch, flags in jax.device_get(self._bad(model, placed)).items():
                member = self.views[experiment.graph.branches[branch].view].member
                here = np.flatnonzero(np.isin(rows[piece], cut.rows()[piece][flags]))
                found += [str(source[int(drawn[row][member])]["key"]) for row in here]
        own = list(dict.fromkeys(found))
        told = self.group.gather([own[:_MOST], len(own)])
        keys = dict.fromkeys(key for some, _ in told for key in some)
        return Suspected(list(keys)[:_MOST], sum(count for _, count in told), config.batch_size)

    def advice(self, step: int, checkpoints: Checkpoints) -> str:
        """What a run that stops at `step` has to say: who is to blame, and how to go on.

        Embeds with the weights of the newest checkpoint, or of the start: those of the step are no more.
        """
        found, keys, more = "", ["KEY"], max(10, 2 * self.experiment.config.skip_bad_steps)
        try:
            restored = checkpoints.restore(self.experiment.state_structure)
            at, state = restored[:2] if restored else (0, self.experiment.initial_state(self.group))
            suspected = self.of_state(step, state)
            found, keys = f"; with the weights of step {at} {suspected}", suspected.named or keys
        except Exception as error:  # the fault itself is what has to be told
            log.debug("the batch of step %d could not be looked at: %r", step, error)
        return (
            f"{found}. In this work directory: --config.skip_bad_steps={more} skips such steps, "
            f'--config.data.skip="{keys}" leaves records out; in another one: '
            "lower config.optimizer.learning_rate"
        )

    def of_state(self, step: int, state: TrainState) -> Suspected:
        """The same with the model of a state."""
        return self(step, self.experiment.model(state.params, state.teachers, state.statistics))

    @functools.cached_property
    def _bad(self) -> Callable[[PyTree, Mapping[str, Array]], dict[str, Bool[Array, " b"]]]:
        graph = self.experiment.graph

        def bad(model, views):
            found = {}
            for name, branch in graph.branches.items():
                encoded = graph.encode(model, name, views[branch.view], train=False, key=None)
                z = graph.finish(model, name, encoded, train=False, key=None)
                fine = (jnp.abs(x).reshape(len(x), -1).max(-1) <= LARGEST for x in (encoded, z))
                found[name] = ~jnp.logical_and(*fine)
            return found

        return jax.jit(bad, out_shardings=replicated(self.experiment.mesh))
