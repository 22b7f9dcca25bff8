"""The programs that a step out of core is made of, each of a piece of the batch or of all that was kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from contrastive_jax.branches import Graph
from contrastive_jax.training.microbatch import Cut
from contrastive_jax.training.step import Found, encode_branches, loss_of_encoded
from contrastive_jax.training.trainable import BESIDE, Trainable, join

if TYPE_CHECKING:
    from jax.sharding import AbstractMesh, Mesh
    from jaxtyping import Array, Float, Int, Key, PyTree

    from contrastive_jax.losses.loss import ConfiguredLoss


_TOWERS = "encoders", "lora"


class Kept(NamedTuple):
    """What the first reading leaves, {branch: array}; the first three axes as `Cut.put` has them.

    encoded: [shards, count, microbatch, H]; prints: a number an example, known again in the second reading.
    """

    encoded: dict[str, Array]
    prints: dict[str, Array]


class Pulled(NamedTuple):
    """What the second reading adds up.

    gradients: of what is trained of the `towers`, [summands, ...]. drift: [size], at each place of a piece
    the largest difference of an example's two encodings, as a part of their length.
    """

    gradients: PyTree
    drift: Float[Array, " size"]


def summands(mesh: Mesh | AbstractMesh) -> int:
    """The parts in which a gradient is added up, each on devices of its own.

    Where every device has all parameters each adds up for itself, and they communicate once, at the end.
    Where parameters are sharded there is one sum, sharded likewise: a sum a device would be as large as all
    of the parameters. (Manual over `data` and automatic over the other axes would serve both; XLA's
    partitioner aborts the process on it.)
    """
    copies = mesh.shape.get("data", 1)
    return copies if copies == mesh.size else 1


def towers(params: PyTree) -> PyTree:
    """The entries of parameters that encoding reads: the encoders', and their adapters' if there are any."""
    return {name: part for name, part in params.items() if name in _TOWERS}


def owned(params: PyTree) -> PyTree:
    """The other entries: what is of heads and losses themselves."""
    return {name: part for name, part in params.items() if name not in _TOWERS}


def embed(
    graph: Graph,
    cut: Cut,
    trainable: Trainable,
    model: PyTree,
    kept: Kept,
    views: Mapping,
    key: Key[Array, ""],
    piece: Int[Array, ""],
) -> tuple[Kept, Int[Array, ""]]:
    """The first reading of a piece; the number is `piece` + 1, for those who wait for the program."""
    encoded = encode_branches(graph, trainable.merged(model), views, key, None, cut.positions(piece))
    prints = {name: _print(rows) for name, rows in encoded.items()}
    put = functools.partial(jax.tree.map, lambda whole, part: cut.put(whole, piece, part))
    return Kept(put(kept.encoded, encoded), put(kept.prints, prints)), piece + 1


def loss_and_gradients(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    trainable: Trainable,
    model: PyTree,
    encoded: dict[str, Array],
    fields: Mapping[str, Array],
    key: Key[Array, ""],
) -> tuple[tuple[Float[Array, ""], Found], tuple[PyTree, dict[str, Array]]]:
    """(value, what else was found), and the gradients of what is trained of {"heads", "losses"} and of
    `encoded`, in its layout; zero for those whose encoder is frozen or a teacher's."""
    moving = _moving(graph, trainable, model)

    def objective(own, encoded):
        rows = {n: x if n in moving else jax.lax.stop_gradient(x) for n, x in encoded.items()}
        rows = {name: x.reshape(-1, *x.shape[3:]) for name, x in rows.items()}
        return loss_of_encoded(graph, losses, join(own, rest), rows, fields, key)

    own, rest = trainable.split(owned(model))
    found, (gradient, cotangents) = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(own, encoded)
    return found, ({name: part for name, part in gradient.items() if name not in BESIDE}, cotangents)


def pull_back(
    graph: Graph,
    cut: Cut,
    trainable: Trainable,
    params: PyTree,
    pulled: Pulled,
    prints: dict[str, Array],
    cotangents: dict[str, Array],
    views: Mapping,
    key: Key[Array, ""],
    piece: Int[Array, ""],
) -> tuple[Pulled, Int[Array, ""]]:
    """The second reading of a piece, added to `pulled`; the number as in `embed`.

    params: the `towers`. Branches whose encoder is frozen are not encoded again.
    """
    moving = _moving(graph, trainable, params)

    def on_own_rows(params, pulled, prints, cotangents, views, positions, key):
        trained, rest = trainable.split(params)

        def forward(trained):
            model = trainable.merged(join(trained, rest))
            return encode_branches(graph, model, views, key, None, positions, moving)

        encoded, pull = jax.vjp(forward, trained)
        (gradients,) = pull(cotangents)
        drift = pulled.drift
        for name, rows in encoded.items():
            size = jnp.maximum(jnp.linalg.norm(rows.reshape(len(rows), -1), axis=-1), 1e-12)
            drift = jnp.maximum(drift, jnp.abs(_print(rows) - prints[name]) / size)
        return Pulled(jax.tree.map(lambda total, g: total + g, pulled.gradients, gradients), drift)

    local = on_own_rows
    if summands(jax.sharding.get_abstract_mesh()) > 1:
        rows, everywhere = P("data"), P()
        local = jax.shard_map(
            on_own_rows,
            in_specs=(everywhere, rows, rows, rows, rows, rows, everywhere),
            out_specs=rows,
            check_vma=False,
        )

    def take(whole):
        return {name: cut.take(whole[name], piece) for name in moving}

    pulled = local(params, pulled, take(prints), take(cotangents), views, cut.positions(piece), key)
    return pulled, piece + 1


def whole_gradient(own: PyTree, pulled: Pulled) -> PyTree:
    """The gradient of all that is trained, in a tree like that of the parameters."""
    return {**own, **jax.tree.map(lambda g: g.sum(0), pulled.gradients)}


def _moving(graph: Graph, trainable: Trainable, params: PyTree) -> list[str]:
    """The branches whose encoder has something to train; a teacher's has nothing."""
    encoders = trainable.encoders(params)
    return [n for n, b in graph.branches.items() if b.encoder in encoders and b.teacher is None]


def _print(rows: Float[Array, "b *K H"]) -> Float[Array, " b"]:
    """One number of each example, which two different ones hardly share."""
    rows = rows.reshape(len(rows), -1)
    return rows @ jnp.cos(jnp.arange(rows.shape[-1], dtype=rows.dtype))
