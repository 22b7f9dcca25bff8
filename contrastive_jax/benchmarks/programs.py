"""Compiled programs: ours, the whole matrices that others write in JAX, and this machine's matmul."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from contrastive_jax.benchmarks.machine import footprint
from contrastive_jax.benchmarks.problem import Problem
from contrastive_jax.benchmarks.reference import Gradients
from contrastive_jax.distributed.mesh import batch_shards, by_example, replicated
from contrastive_jax.losses import sigmoid_contrastive, softmax_contrastive
from contrastive_jax.losses.pairs import records, relation
from contrastive_jax.planning.collectives import sent_bytes
from contrastive_jax.similarity import Dot, Scores, plan

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    Value = Callable[..., Float[Array, ""]]


class Program:
    """A loss with the gradients of all that it takes, compiled for a problem on a mesh."""

    def __init__(self, value: Value, problem: Problem, mesh: jax.sharding.Mesh):
        rows, columns = problem.embeddings()
        even = problem.batch % batch_shards(mesh) == 0
        place = by_example(mesh) if even else replicated(mesh)
        both = [jax.device_put(z.astype(jnp.dtype(problem.dtype)), place) for z in (rows, columns)]
        scalars = [jax.device_put(np.float32(x), replicated(mesh)) for x in problem.scalars]
        self.arguments = (*both, *scalars)
        self.devices = mesh.size
        every = tuple(range(len(self.arguments)))
        self.compiled = jax.jit(jax.value_and_grad(value, argnums=every)).lower(*self.arguments).compile()

    def __call__(self) -> tuple[Array, tuple[Array, ...]]:
        return self.compiled(*self.arguments)

    def gradients(self) -> Gradients:
        value, gradients = jax.device_get(self())
        return Gradients(float(value), *(np.asarray(g, np.float32) for g in gradients))

    @property
    def temp_bytes(self) -> int:
        return footprint(self.compiled)["temp_bytes"]

    @property
    def collective_bytes(self) -> dict[str, int]:
        return sent_bytes(self.compiled.as_text(), self.devices)


def ours(problem: Problem, mesh: jax.sharding.Mesh, engine: Mapping[str, Any]) -> Value:
    """This library's loss; `engine` are the keywords of its reductions."""
    keywords = _keywords(mesh, engine)
    if problem.loss == "softmax":
        return lambda q, k, scale: softmax_contrastive(q, k, scale=scale, engine=keywords).value
    return lambda q, k, scale, bias: sigmoid_contrastive(q, k, scale=scale, bias=bias, engine=keywords).value


def dense(problem: Problem) -> Value:
    """The whole matrix, by optax: cross-entropy both ways, or a binary one of every pair."""

    def softmax(q, k, scale):
        logits, labels = scale * _products(q, k), jnp.arange(len(q))
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        return (cross_entropy(logits, labels).mean() + cross_entropy(logits.T, labels).mean()) / 2

    def sigmoid(q, k, scale, bias):
        logits = scale * _products(q, k) + bias
        return optax.sigmoid_binary_cross_entropy(logits, jnp.eye(len(q))).sum() / len(q)

    return softmax if problem.loss == "softmax" else sigmoid


def ntxent(problem: Problem) -> Value:
    """optax's contrastive loss: NT-Xent of rows and columns in one batch of twice the size."""

    def value(q, k, scale):
        labels = jnp.tile(jnp.arange(len(q)), 2)
        return optax.losses.ntxent(jnp.concatenate([q, k]), labels, 1 / scale)

    return value


def matmul(problem: Problem, mesh: jax.sharding.Mesh) -> tuple[Callable[[], Array], int]:
    """Square products on every device at once, as many as come near the loss's work, and their FLOPs.

    The side is a power of two no longer than the batch, up to 2048 on a CPU and 8192 elsewhere; the
    dtype and the precision are the loss's.
    """
    longest = 2048 if mesh.devices.flat[0].platform == "cpu" else 8192
    side = min(max(2 ** (problem.batch.bit_length() - 1), 128), longest)
    flops = 2 * side**3 * mesh.size
    times = min(max(problem.flops() // flops, 1), 16)
    every = PartitionSpec(mesh.axis_names)
    rng = np.random.default_rng(0)

    def numbers():
        block = rng.standard_normal((side, side), np.float32).astype(jnp.dtype(problem.dtype))
        return jax.device_put(np.tile(block, (mesh.size, 1)), jax.sharding.NamedSharding(mesh, every))

    a, b = numbers(), numbers()
    multiply = jax.shard_map(_products, mesh=mesh, in_specs=(every, every), out_specs=every)
    compiled = jax.jit(multiply).lower(a, b).compile()

    def run():
        for _ in range(times):
            product = compiled(a, b)
        return product

    return run, flops * times


def _products(a: Float[Array, "r d"], b: Float[Array, "c d"]) -> Float[Array, "r c"]:
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jnp.matmul(a, b.T, precision=precision, preferred_element_type=jnp.float32)


def chosen(problem: Problem, mesh: jax.sharding.Mesh, engine: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine chooses for `ours`: block, backend, communication, and whether products are kept."""
    structures = [jax.ShapeDtypeStruct((problem.batch, problem.dim), jnp.dtype(problem.dtype))] * 2
    rows, columns = jax.eval_shape(lambda *z: records(*z, None, None, None), *structures)
    shared = dict.fromkeys(("scale", "bias")[: len(problem.scalars)], jax.ShapeDtypeStruct((), jnp.float32))
    softmax = problem.loss == "softmax"
    tile = Dot(_scores, bound=(lambda shared: shared["scale"]) if softmax else None)
    reduction = "cross_entropy" if softmax else "total"
    found = plan(tile, rows, columns, shared, reduction=reduction, **_keywords(mesh, engine))
    return {
        "block": list(found.block),
        "backend": found.backend,
        "communication": found.communication,
        "keep": found.keeps,
    }


def _scores(dots, rows, columns, shared) -> Scores:
    """As large on the way as those of either loss."""
    return Scores(shared["scale"] * dots, None, relation(rows, columns)[0])


def _keywords(mesh: jax.sharding.Mesh, engine: Mapping[str, Any]) -> dict[str, Any]:
    return {**engine, **({"mesh": mesh} if mesh.size > 1 else {})}
