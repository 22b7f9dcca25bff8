"""One exact step of a batch whose inputs never lie in memory together (`mode="out_of_core"`).

The batch is read twice, a piece at a time. The first reading keeps what the encoders make of every example;
from that come the loss and its gradient with respect to these vectors. The second reading encodes every piece
again, with the same random numbers, and pulls that gradient back into the encoders' parameters. By the chain
rule the sum over the pieces is the gradient of the whole batch; nothing is approximated.

Source: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (GradCache),
arXiv 2101.06983.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from contrastive_jax.branches import Graph
from contrastive_jax.distributed.mesh import by_example, replicated
from contrastive_jax.distributed.rows import local_rows, place
from contrastive_jax.training.microbatch import Cut
from contrastive_jax.training.pieces import (
    Kept,
    Pulled,
    embed,
    loss_and_gradients,
    owned,
    pull_back,
    summands,
    towers,
    whole_gradient,
)
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.step import Found, encode_branches, model_of, unless_bad, updated
from contrastive_jax.training.trainable import EVERYTHING, Trainable

if TYPE_CHECKING:
    from jax.sharding import Mesh
    from jax.stages import Compiled
    from jaxtyping import Array, Float, Key, PyTree

    from contrastive_jax.losses.loss import ConfiguredLoss


class OutOfCore:
    """The step of one run: `(state, pieces) -> (state, metrics, broken records)`, its programs compiled once.

    `gradients` is the step without its update. The programs: `empty`, then `embed` and, after `loss`,
    `pull_back`, each as often as there are pieces, and `update`.
    """

    def __init__(
        self,
        graph: Graph,
        losses: Mapping[str, ConfiguredLoss],
        optimizer: optax.GradientTransformation,
        mesh: Mesh,
        cut: Cut,
        state: TrainState,
        trainable: Trainable = EVERYTHING,
        steps: int = 1,
        skip_bad: bool = False,
    ) -> None:
        """state: its structure, shapes and shardings; steps: of the whole run; skip_bad: see `unless_bad`."""
        self.graph, self.losses, self.optimizer, self.mesh, self.cut = graph, losses, optimizer, mesh, cut
        self.trainable, self.steps, self.skip_bad = trainable, steps, skip_bad
        kept, pulled = self.structures(model_of(state))
        shardings = functools.partial(jax.tree.map, lambda x: x.sharding)
        self.empty = jax.jit(
            lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (kept, pulled)),
            out_shardings=shardings((kept, pulled)),
        )
        self.embed = jax.jit(
            functools.partial(embed, graph, cut, trainable),
            donate_argnums=1,
            out_shardings=(shardings(kept), replicated(mesh)),
        )
        own, _ = trainable.split(owned(shardings(state.params)))
        found = Found(replicated(mesh), shardings(state.statistics), shardings(state.memory))
        self.loss = jax.jit(
            functools.partial(loss_and_gradients, graph, losses, trainable),
            donate_argnums=1,
            out_shardings=((replicated(mesh), found), (own, shardings(kept.encoded))),
        )
        self.pull_back = jax.jit(
            functools.partial(pull_back, graph, cut, trainable),
            donate_argnums=1,
            out_shardings=(shardings(pulled), replicated(mesh)),
        )
        self.update = jax.jit(
            self._updated, donate_argnums=0, out_shardings=(shardings(state), replicated(mesh))
        )

    def __call__(
        self, state: TrainState, pieces: Iterator[dict], wait: Callable[[Array], None], ahead: int = 1
    ) -> tuple[TrainState, dict[str, Array], int]:
        """One update, as `train_step` makes it; `state` is consumed by the very last program.

        pieces: twice the pieces of a batch, {"views", "fields", "broken"} in numpy, with the rows that
        `cut.local_rows` has.
        wait: is given an array to wait for; what it raises ends the step and leaves `state` as it is.
        ahead: programs that may be under way while the next one is prepared.
        Raises OSError if the second reading meets other broken records than the first one.
        """
        key = jax.random.fold_in(state.key, state.step)
        (value, found), own, pulled, broken = self.gradients(model_of(state), key, pieces, wait, ahead)
        wait(pulled.drift)
        state, metrics = self.update(state, pulled, own, value, found)
        return state, metrics, broken

    def gradients(
        self, model: PyTree, key: Key[Array, ""], pieces: Iterator[dict], wait=jax.block_until_ready, ahead=1
    ) -> tuple[tuple[Float[Array, ""], Found], PyTree, Pulled, int]:
        """(value, what else was found), the gradients of heads and losses, what was pulled back, broken
        records."""
        kept, pulled = self.empty()
        fields: dict[str, np.ndarray] = {}
        broken, pace = [], _Pace(wait, ahead)
        here = local_rows(self.mesh, self.cut.batch_size)
        for piece, rows in enumerate(self.cut.local_rows(self.mesh)):
            batch = next(pieces)
            broken.append(int(batch["broken"]))
            for name, values in batch["fields"].items():
                fields.setdefault(name, np.empty(len(here), values.dtype))[np.searchsorted(here, rows)] = (
                    values
                )
            kept, done = self.embed(model, kept, self._piece(batch["views"]), key, np.int32(piece))
            pace(done)
        found, (own, cotangents) = self.loss(
            model, kept.encoded, place(self.mesh, self.cut.batch_size, fields), key
        )
        wait(found[0])
        for piece in range(self.cut.count):
            batch = next(pieces)
            if int(batch["broken"]) != broken[piece]:
                raise OSError(
                    f"a batch was read twice and was not the same: {broken[piece]} broken records of piece "
                    f"{piece}, then {int(batch['broken'])}; see to the source and run the same command again"
                )
            pulled, done = self.pull_back(
                towers(model),
                pulled,
                kept.prints,
                cotangents,
                self._piece(batch["views"]),
                key,
                np.int32(piece),
            )
            pace(done)
        return found, own, pulled, sum(broken)

    def _updated(self, state, pulled, own, value, found):
        gradients = whole_gradient(own, pulled)
        metrics = found.metrics | {
            "loss": value,
            "gradient_norm": optax.tree.norm(gradients),
            "embedding_drift": pulled.drift.max(),
        }
        parts = self.graph, self.losses, self.optimizer
        new = updated(*parts, state, gradients, found, self.trainable, self.steps)
        return unless_bad(new, state, metrics) if self.skip_bad else new, metrics

    def using(self, compiled: Mapping[str, Compiled]) -> OutOfCore:
        """The same step with these programs, by name, in place of its own."""
        step = copy.copy(self)
        for name, program in compiled.items():
            setattr(step, name, program)
        return step

    def _piece(self, views: Mapping[str, np.ndarray]) -> dict[str, Array]:
        return place(self.mesh, self.cut.shards * self.cut.microbatch, views)

    def structures(self, model: PyTree) -> tuple[Kept, Pulled]:
        """What the readings fill, from shapes alone."""
        cut, size = self.cut, self.cut.shards * self.cut.microbatch
        encoded = jax.eval_shape(
            lambda model, views: encode_branches(
                self.graph, self.trainable.merged(model), views, jax.random.key(0), None, jnp.arange(size)
            ),
            model,
            self.graph.inputs(size),
        )
        rows = by_example(self.mesh)

        def kept(x, shape):
            return jax.ShapeDtypeStruct(
                (cut.shards, cut.count, cut.microbatch, *shape), x.dtype, sharding=rows
            )

        def summed(x):
            shape = (summands(self.mesh), *x.shape)
            placed = NamedSharding(self.mesh, P("data" if shape[0] > 1 else None, *x.sharding.spec))
            return jax.ShapeDtypeStruct(shape, jnp.promote_types(jnp.float32, x.dtype), sharding=placed)

        vectors = {name: kept(x, x.shape[1:]) for name, x in encoded.items()}
        prints = {name: kept(x, ()) for name, x in encoded.items()}
        drift = jax.ShapeDtypeStruct((size,), jnp.float32, sharding=rows)
        return Kept(vectors, prints), Pulled(
            jax.tree.map(summed, self.trainable.split(towers(model))[0]), drift
        )


class _Pace:
    """Lets `ahead` programs be under way and no more, so that no inputs pile up on the device."""

    def __init__(self, wait: Callable[[Array], None], ahead: int) -> None:
        self._wait, self._ahead, self._under_way = wait, ahead, deque()

    def __call__(self, output: Array) -> None:
        self._under_way.append(output)
        while len(self._under_way) > self._ahead:
            self._wait(self._under_way.popleft())
