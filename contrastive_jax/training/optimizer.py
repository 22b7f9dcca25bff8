"""Optimizers: a schedule, clipping, and an update that spares what should not decay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import PyTree

DECAYS = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Optimizer(ABC):
    """What all have in common: a linear warm-up, then a rate that falls until the last step.

    learning_rate: at the end of the warm-up; warmup: the share that it takes, 0 to 1, of the steps that the
    run begins with, or warmup_steps of them; decay: how the rate falls, `cosine` or `linear`, or `constant`;
    cooldown: the share of all steps at the end, or cooldown_steps of them, in which a constant rate falls
    after all, by 1 - sqrt(t), t from 0 to 1; final: the rate that it falls to; clip: the largest norm of the
    whole gradient, None for none. Biases, norms, scales and single vectors have no weight decay.

    Sources of the cool-down: Hu et al. 2024, arXiv 2404.06395; Hägele et al. 2024, arXiv 2405.18392.
    """

    learning_rate: float = 1e-3
    warmup: float = 0.1
    warmup_steps: int | None = None
    decay: str = "cosine"
    cooldown: float = 0.0
    cooldown_steps: int | None = None
    final: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None

    def __post_init__(self):
        for name in ("warmup", "cooldown"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{name}={getattr(self, name)}: give the share of all steps, from 0 to 1, or {name}_steps"
                )
        if self.decay not in DECAYS:
            raise InputError(f"decay={self.decay!r}: give one of {', '.join(DECAYS)}")
        _check(self, "a positive number", lambda x: x > 0, "learning_rate", "eps", "trust_coefficient")
        _check(self, "0 or more", lambda x: x >= 0, "weight_decay", "final", "warmup_steps", "cooldown_steps")
        if self.final > self.learning_rate:
            raise InputError(f"final={self.final} is over learning_rate={self.learning_rate}: lower it")
        if self.cooldown and self.cooldown_steps is not None:
            raise InputError(
                f"cooldown={self.cooldown} and cooldown_steps={self.cooldown_steps}: give one of the two"
            )
        cooldown = self.cooldown or self.cooldown_steps
        if cooldown and self.decay != "constant":
            key = "cooldown" if self.cooldown else "cooldown_steps"
            raise InputError(f"{key}={cooldown} wants decay='constant', and decay={self.decay!r} falls")
        if self.final and self.decay == "constant" and not cooldown:
            raise InputError(
                f"final={self.final}, and decay='constant' does not fall: give a cooldown or another decay"
            )
        _check(self, "a number in [0, 1)", lambda x: 0 <= x < 1, "momentum", "b1", "b2")
        if self.clip is not None and self.clip <= 0:
            raise InputError(f"clip={self.clip}: give a positive number, or None")

    def schedule(self, steps: int, begun_with: int | None = None) -> optax.Schedule:
        """The learning rate of each step, 0 to steps - 1.

        begun_with: the steps that the run was to have at its first start, by default the same: more steps do
        not move the warm-up.
        """
        steps = max(steps, 1)
        share = round(self.warmup * (begun_with or steps))
        up = min(share if self.warmup_steps is None else self.warmup_steps, steps - 1)
        if self.decay == "cosine":
            return optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, up, steps, self.final)
        if self.decay == "constant":
            share = round(self.cooldown * steps)
            down = min(share if self.cooldown_steps is None else self.cooldown_steps, steps - up)
            after = self._cooling(steps - up, down)
        else:
            after = optax.linear_schedule(self.learning_rate, self.final, steps - up)
        return optax.join_schedules([optax.linear_schedule(0.0, self.learning_rate, max(up, 1)), after], [up])

    def _cooling(self, steps: int, down: int) -> optax.Schedule:
        def rate(step):
            part = jnp.clip((step - (steps - down)) / max(down, 1), 0, 1)
            return self.learning_rate - (self.learning_rate - self.final) * jnp.sqrt(part)

        return rate if down else optax.constant_schedule(self.learning_rate)

    def transformation(
        self, steps: int, decays: PyTree, begun_with: int | None = None
    ) -> optax.GradientTransformation:
        """decays: the tree of parameters with a bool each, see `decaying`; the others as in `schedule`."""
        clip = optax.identity() if self.clip is None else optax.clip_by_global_norm(self.clip)
        return optax.chain(clip, self.update(self.schedule(steps, begun_with), decays))

    @abstractmethod
    def update(self, rate: optax.Schedule, decays: PyTree) -> optax.GradientTransformation:
        """From the clipped gradient to what is added to the parameters."""

    def decayed(self, decays: PyTree) -> optax.GradientTransformation:
        return optax.add_decayed_weights(self.weight_decay, decays)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101)."""

    weight_decay: float = 0.1
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6
    clip: float | None = 1.0

    def update(self, rate: optax.Schedule, decays: PyTree) -> optax.GradientTransformation:
        return optax.adamw(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay, mask=decays)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2014, arXiv 1412.6980); weight decay is a part of the gradient."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def update(self, rate: optax.Schedule, decays: PyTree) -> optax.GradientTransformation:
        return optax.chain(self.decayed(decays), optax.adam(rate, self.b1, self.b2, self.eps))


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum; weight decay is a part of the gradient."""

    learning_rate: float = 0.03
    weight_decay: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = False

    def update(self, rate: optax.Schedule, decays: PyTree) -> optax.GradientTransformation:
        return optax.chain(self.decayed(decays), optax.sgd(rate, self.momentum, self.nesterov))


@dataclass(frozen=True)
class LARS(Optimizer):
    """LARS (You et al. 2017, arXiv 1708.03888): each matrix moves in proportion to its own norm; those of
    a transformer's layers, which are one array, in proportion to their common one.

    What has no weight decay is not scaled either, as in SimCLR.
    """

    learning_rate: float = 4.8
    weight_decay: float = 1e-6
    momentum: float = 0.9
    nesterov: bool = False
    trust_coefficient: float = 1e-3

    def update(self, rate: optax.Schedule, decays: PyTree) -> optax.GradientTransformation:
        return optax.lars(
            rate,
            self.weight_decay,
            decays,
            self.trust_coefficient,
            trust_ratio_mask=decays,
            momentum=self.momentum,
            nesterov=self.nesterov,
        )


@dataclass(frozen=True)
class LAMB(Optimizer):
    """LAMB (You et al. 2019, arXiv 1904.00962): Adam's step, as long as each matrix's own norm says; those of
    a transformer's layers, which are one array, have a common one.

    What has no weight decay is not scaled either: a scale that starts at 0 would stay there.
    """

    weight_decay: float = 1e-5
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-6

    def update(self, rate: optax.Schedule, decays: PyTree) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2, self.eps),
            self.decayed(decays),
            optax.masked(optax.scale_by_trust_ratio(), decays),
            optax.scale_by_learning_rate(rate),
        )


@dataclass(frozen=True)
class Adafactor(Optimizer):
    """Adafactor (Shazeer and Stern 2018, arXiv 1804.04235): second moments by rows and columns.

    decay_rate: the moments' own, 1 - step^-decay_rate; update_clip: the largest root mean square of a
    parameter's update, None for none; by_scale: steps in proportion to a parameter's root mean square;
    factored: by rows and columns, or whole. Weight decay is as in AdamW. A transformer's
    layers are one array each kind of parameter, and so have one such root mean square.
    """

    learning_rate: float = 1e-2
    decay_rate: float = 0.8
    update_clip: float | None = 1.0
    by_scale: bool = False
    factored: bool = True

    def __post_init__(self):
        super().__post_init__()
        _check(self, "a number in (0, 1]", lambda x: 0 < x <= 1, "decay_rate")
        if self.update_clip is not None and self.update_clip < 1:
            raise InputError(f"update_clip={self.update_clip}: give 1 or more, or None")

    def update(self, rate: optax.Schedule, decays: PyTree) -> optax.GradientTransformation:
        clip = optax.identity() if self.update_clip is None else optax.clip_by_block_rms(self.update_clip)
        return optax.chain(
            optax.scale_by_factored_rms(self.factored, self.decay_rate),
            clip,
            optax.scale_by_param_block_rms() if self.by_scale else optax.identity(),
            self.decayed(decays),
            optax.scale_by_learning_rate(rate),
        )


def decaying(axes: PyTree) -> PyTree:
    """True for matrices and tables, by name and logical axes; that of stacked layers does not count."""

    def decays(path, names) -> bool:
        spared = path[-1].key == "bias" or path[-1].key.endswith("scale")
        return not spared and sum(name != "layers" for name in names) >= 2

    return jax.tree_util.tree_map_with_path(decays, axes, is_leaf=lambda x: isinstance(x, tuple))


def moment_shardings(
    transformation: optax.GradientTransformation,
    state: PyTree,
    params: PyTree,
    shardings: PyTree,
    everywhere: Any,
) -> PyTree:
    """Where the arrays of an optimizer's state lie: a moment where its parameter does.

    state, params: arrays or shapes; shardings: of the parameters. What has not its parameter's shape (a
    factored moment, a count) lies `everywhere`: it is small.
    """
    return optax.tree_utils.tree_map_params(
        transformation,
        lambda moment, param, sharding: sharding if moment.shape == param.shape else everywhere,
        state,
        params,
        shardings,
        transform_non_params=lambda _: everywhere,
    )


def _check(optimizer: Optimizer, wanted: str, holds, *names: str) -> None:
    for name in names:
        value = getattr(optimizer, name, None)
        if value is not None and not holds(value):
            raise InputError(f"{name}={value}: give {wanted}")


KINDS = {
    "adamw": AdamW,
    "adam": Adam,
    "sgd": SGD,
    "lars": LARS,
    "lamb": LAMB,
    "adafactor": Adafactor,
}
