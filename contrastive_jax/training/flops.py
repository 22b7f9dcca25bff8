"""Floating-point operations of a train step, by formula: what the model needs, however it is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from contrastive_jax.branches import Graph

if TYPE_CHECKING:
    from jax.extend.core import Jaxpr, JaxprEqn

    from contrastive_jax.losses.loss import ConfiguredLoss
    from contrastive_jax.training.experiment import Experiment


class Work(NamedTuple):
    """FLOPs of one step.

    encoders: of the encoders that have something to train, forward, for the whole batch; frozen_encoders: of
    the others, and of teachers with their heads; heads: likewise; matrices: one product of each similarity
    matrix that a loss needs a gradient through; constant_matrices: of those without one. A matrix with a
    gradient on one side is half of each.
    """

    encoders: float
    heads: float
    matrices: float
    constant_matrices: float
    frozen_encoders: float = 0.0

    @property
    def model(self) -> float:
        """Forward and backward once, nothing computed twice.

        A backward pass has two products for every one of the forward pass: so three times the forward
        pass, which for a B x B matrix of d-number embeddings is 6 B^2 d. An encoder that is frozen as a whole
        has none; one that is frozen in part, or adapted, counts as if it were trained.
        """
        constant = self.constant_matrices + self.frozen_encoders
        return 3 * (self.encoders + self.heads + self.matrices) + constant


def step_flops(experiment: Experiment) -> float:
    """Model FLOPs of one train step of the whole batch on all devices; nothing recomputed is counted."""
    trained = experiment.trainable.encoders(experiment.axes)
    return work(experiment.graph, experiment.losses, experiment.config.batch_size, trained).model


def work(
    graph: Graph,
    losses: Mapping[str, ConfiguredLoss],
    batch_size: int,
    trained: Collection[str] | None = None,
) -> Work:
    """The FLOPs of a step's parts, from one example's shapes; trained: these encoders, None for all."""

    def new_model(key):
        params = graph.init(key)
        return {**params, **graph.beside(key, params)}

    encoders = frozen = heads = 0.0
    widths: dict[str, int] = {}
    sizes = {name: queue.columns for name, queue in graph.memory.items()}
    model, key = jax.eval_shape(new_model, jax.random.key(0)), jax.eval_shape(jax.random.key, 0)
    keys, views = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1)), graph.inputs(1)
    for name, branch in graph.branches.items():
        encode = jax.make_jaxpr(
            lambda model, view, keys, name=name: graph.encode(model, name, view, train=True, key=keys),
            return_shape=True,
        )
        program, encoded = encode(model, views[branch.view], keys)
        forward = batch_size * flops(program.jaxpr)
        finish = jax.make_jaxpr(
            lambda model, rows, key, name=name: graph.stages(model, name, rows, train=True, key=key)[0],
            return_shape=True,
        )
        program, embeddings = finish(model, encoded, key)
        after = batch_size * flops(program.jaxpr)
        if branch.teacher is not None:
            frozen += forward + after
        elif trained is None or branch.encoder in trained:
            encoders, heads = encoders + forward, heads + after
        else:
            frozen, heads = frozen + forward, heads + after
        widths |= {stage: z.shape[-1] for stage, z in embeddings.items()}
        sizes |= {
            stage: batch_size * z.shape[-2] if z.ndim == 3 else batch_size for stage, z in embeddings.items()
        }
    matrices = [m for loss in losses.values() for m in loss.matrices(batch_size, sizes)]
    products = [2.0 * m.rows * m.columns * widths[m.branch] for m in matrices]
    with_gradient = sum(p * m.sides / 2 for p, m in zip(products, matrices))
    return Work(encoders, heads, with_gradient, sum(products) - with_gradient, frozen)


def flops(jaxpr: Jaxpr, weight: Callable[[JaxprEqn], float] = lambda _: 1.0) -> float:
    """Multiplications and additions of the products and convolutions in a program, on all devices.

    A loop of known length counts as often as it runs, a `while` once; of a conditional's branches the
    cheapest counts. What is done element by element does not: matrix units do not do it. weight: what one
    of a product's FLOPs counts.
    """
    return sum(_of_equation(equation, weight) for equation in jaxpr.eqns)


def _of_equation(equation: JaxprEqn, weight: Callable[[JaxprEqn], float]) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        inner = math.prod(left[axis] for axis in contracted)
        return 2.0 * equation.outvars[0].aval.size * inner * weight(equation)
    if name == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, parameters["dimension_numbers"]
        window = math.prod(kernel) // kernel[numbers.rhs_spec[0]]  # input features a group are in the kernel
        return 2.0 * equation.outvars[0].aval.size * window * weight(equation)
    inner = [flops(program, weight) for program in _programs(parameters)]
    if name == "cond":
        return min(inner)
    return _times(name, parameters) * sum(inner)


def _times(name: str, parameters: Mapping[str, Any]) -> float:
    """How often an equation runs what it calls; in a `shard_map` every device does."""
    if name == "scan":
        return parameters["length"]
    if name == "shard_map":
        mesh = parameters["mesh"]
        return math.prod(mesh.shape[axis] for axis in parameters["newly_manual_axes"])
    return 1.0


def _programs(parameters: Mapping[str, Any]):
    """The programs that an equation calls (a custom derivative's own one is a function, so not traced)."""
    for value in parameters.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            program = getattr(one, "jaxpr", one)
            if hasattr(program, "eqns"):
                yield program
