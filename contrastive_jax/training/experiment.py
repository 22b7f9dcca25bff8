"""What a config describes: its schema, and a run's parts built and checked from it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from contrastive_jax import encoders, evaluation, losses
from contrastive_jax.branches import Branch, Graph
from contrastive_jax.configuration import Kind, Named
from contrastive_jax.data import pipeline, samplers, tokenizers, views
from contrastive_jax.data.records import Source
from contrastive_jax.data.sources import open_source
from contrastive_jax.distributed.joining import Limits
from contrastive_jax.distributed.mesh import MeshShape, batch_shards, replicated
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.distributed.sharding import shardings
from contrastive_jax.encoders.heads import KINDS as HEADS
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.opening import opened
from contrastive_jax.training import lora, optimizer, starting
from contrastive_jax.training.checks import check_division, check_fields, check_numbers, check_wiring
from contrastive_jax.training.lora import Adapter
from contrastive_jax.training.microbatch import Cut
from contrastive_jax.training.out_of_core import OutOfCore
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.step import train_step
from contrastive_jax.training.structure import named_leaves
from contrastive_jax.training.trainable import Trainable


@dataclass(frozen=True)
class Data:
    """source: a name or kind:path; workers: processes that read ahead (0: a thread), prefetch batches
    each; broken_share: the share of records that may be unreadable before the run stops; stall_seconds: the
    longest wait for a batch."""

    source: str
    views: Annotated[dict, Named(Kind(views.KINDS))]
    sampler: Annotated[dict, Kind(samplers.KINDS)]
    tokenizer: Annotated[dict, Kind(tokenizers.KINDS)] | None = None
    workers: int = 0
    prefetch: int = 4
    broken_share: float = 0.01
    stall_seconds: float = 600.0


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint every so many steps, and at the end. The newest `keep` stay (None: all), and those whose
    step is a multiple of `keep_every`, and the one with the highest value of the metric `best`, or with
    the lowest: a metric of its step's line, such as retrieval/text_to_image/R@5."""

    every: int = 500
    keep: int | None = 2
    keep_every: int | None = None
    best: str | None = None
    lowest: bool = False


@dataclass(frozen=True)
class Logging:
    """A line of metrics every so many steps, and at the end; tensorboard: there as well; peak_flops: what a
    device can do in a second, for the metric mfu (None: as the maker of a known one states it)."""

    every: int = 10
    tensorboard: bool = True
    peak_flops: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Evaluators, every so many steps (None: only at the end), on the records of `source` where they name
    no source of their own."""

    evaluators: Annotated[dict, Named(Kind(evaluation.KINDS))]
    source: str | None = None
    every: int | None = None
    batch_size: int = 512


@dataclass(frozen=True)
class Config:
    """The top-level keys of every config. batch_size: the contrastive batch; microbatch: examples that a
    device encodes at once (None: all of its share); mode: in_core, or out_of_core for a batch whose inputs
    do not fit, which is then read twice, a microbatch for every device at a time; init_from: weights that a
    new run starts from; frozen: patterns of the names of parameters that are not trained, as
    encoders/image/*; lora: matrices that are trained through adapters of low rank."""

    steps: int
    batch_size: int
    data: Data
    encoders: Annotated[dict, Named(Kind(encoders.KINDS))]
    branches: Annotated[dict, Named(Branch)]
    losses: Annotated[dict, Named(Kind(losses.KINDS))]
    optimizer: Annotated[dict, Kind(optimizer.KINDS)]
    heads: Annotated[dict, Named(Kind(HEADS))] = field(default_factory=dict)
    init_from: Annotated[dict, Named(starting.InitFrom)] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    lora: Annotated[dict, Named(Adapter)] = field(default_factory=dict)
    seed: int = 0
    microbatch: int | None = None
    mode: str = "in_core"
    mesh: MeshShape = MeshShape()
    processes: Limits = Limits()
    checkpoint: Checkpoint = Checkpoint()
    logging: Logging = Logging()
    evaluation: Evaluation | None = None


class Experiment:
    """A built config, with everything that its train step needs; opens no source, makes no array.

    Raises InputError, naming the key, for parts that do not fit each other or, if it is for `training`,
    for a batch or a parameter that does not divide over the devices.
    """

    def __init__(self, config: Config, devices=None, training: bool = True):
        self.config = config
        check_numbers(config)
        self.mesh: Mesh = config.mesh.make(devices)
        structures = {name: view.structure() for name, view in config.data.views.items()}
        self.graph = Graph(config.branches, config.encoders, config.heads, structures)
        self.losses: Mapping[str, Any] = config.losses
        check_wiring(self)
        if training:
            check_division(config, batch_shards(self.mesh))
        self.axes = {
            **self.graph.logical_axes(),
            "losses": {n: _scalar_axes(loss) for n, loss in self.losses.items()},
        }
        sharded = training and self.mesh.size > self.mesh.shape["data"]
        parts = jax.eval_shape(self.graph.init, jax.random.key(0)) if sharded or config.lora else {}
        if sharded:
            shardings({name: self.axes[name] for name in parts}, parts, self.mesh)
        self.adapted = lora.adapted(config.lora, self.axes, parts)
        if self.adapted:
            self.axes["lora"] = lora.logical_axes(self.adapted)
        alphas = {name: matrix.adapter.alpha for name, matrix in self.adapted.items()}
        self.trainable = Trainable(config.frozen, alphas)
        self.trainable.check(named_leaves(self.axes, _is_axes))
        trained, _ = self.trainable.split(optimizer.decaying(self.axes))
        self.optimizer: optax.GradientTransformation = config.optimizer.transformation(config.steps, trained)
        self._starts: list[starting.Start] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The batch fields that the losses read."""
        return tuple(sorted({name for loss in self.losses.values() for name in loss.fields}))

    @functools.cached_property
    def source(self) -> Source:
        """The training records; opened when first asked for."""
        return _open("data.source", self.config.data.source)

    def evaluator_sources(self, name: str) -> list[Source]:
        """The records that an evaluator reads, first those that it is run on; opened when first asked for."""
        common, where = self.config.evaluation.source, f"evaluation.evaluators.{name}"
        specs = self.config.evaluation.evaluators[name].sources
        return [_open("evaluation.source" if s is None else where, s or common, opened) for s in specs]

    @functools.cached_property
    def sampler(self) -> Any:
        """Which records of `source` make the batch of a step."""
        return self.config.data.sampler.bind(self.source, self.config.batch_size, self.config.seed)

    def check_data(self) -> None:
        """Opens the sources, and raises InputError for what they lack of what the config reads of them."""
        views = self.config.data.views
        wanted = [(f"data.views.{name}.field", view.field) for name, view in views.items()]
        further = [(name, field) for name, view in views.items() for field in getattr(view, "also", ())]
        wanted += [(f"data.views.{name}.also", field) for name, field in further]
        labels = [(f"losses.{name}", f) for name, loss in self.losses.items() for f in loss.fields]
        wanted += [(where, field.partition(":")[0]) for where, field in labels]
        check_fields(self.source, wanted)
        pipeline.check_members(views, self.sampler)
        if self.config.evaluation:
            for name, evaluator in self.config.evaluation.evaluators.items():
                named = [(f"evaluation.evaluators.{name}", field) for field in evaluator.fields]
                for source in self.evaluator_sources(name):
                    check_fields(source, named)

    def new_state(self, key: jax.Array) -> TrainState:
        """The state before the first step; pure."""
        own = {name: loss.init() for name, loss in self.losses.items()}
        params = {**self.graph.init(jax.random.fold_in(key, 0)), "losses": own}
        if self.adapted:
            params["lora"] = lora.init(jax.random.fold_in(key, 2), self.adapted)
        run_key, (trained, _) = jax.random.fold_in(key, 1), self.trainable.split(params)
        return TrainState(jnp.zeros((), jnp.int32), params, self.optimizer.init(trained), {}, {}, {}, run_key)

    @property
    def state_axes(self) -> dict[str, Any]:
        """The logical axis names of the state's arrays, all but the optimizer's."""
        return {"params": self.axes, "teachers": {}, "statistics": {}, "memory": {}}

    @functools.cached_property
    def state_structure(self) -> TrainState:
        """The state's shapes and dtypes with their shardings: moments lie where their parameters do."""
        shapes = jax.eval_shape(lambda: self.new_state(jax.random.key(0)))
        placed = {
            part: shardings(axes, getattr(shapes, part), self.mesh) for part, axes in self.state_axes.items()
        }
        opt_state = optax.tree_utils.tree_map_params(
            self.optimizer,
            lambda _, sharding: sharding,
            shapes.opt_state,
            self.trainable.split(placed["params"])[0],
            transform_non_params=lambda _: replicated(self.mesh),
        )
        everywhere = replicated(self.mesh)
        all_shardings = TrainState(step=everywhere, opt_state=opt_state, key=everywhere, **placed)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            all_shardings,
        )

    @property
    def state_shardings(self) -> TrainState:
        return jax.tree.map(lambda x: x.sharding, self.state_structure)

    def find_starts(self, group: Group = ALONE) -> None:
        """Looks up what `init_from` names; raises InputError for what is not there or does not fit."""
        if self.config.init_from and self._starts is None:
            self._starts = starting.find(
                self.config.init_from, self.graph, self.state_structure.params, group
            )

    def initial_state(self, group: Group = ALONE) -> TrainState:
        """`new_state` of the config's seed, made where it belongs, with the weights of `init_from` in it."""
        state = self._new_state(jax.random.key(self.config.seed))
        self.find_starts(group)
        starts, self._starts = self._starts or [], None
        return state._replace(params=starting.started(starts, state.params))

    def merged(self, params: Any) -> Any:
        """The parameters of the model itself: where there are adapters, merged into their matrices."""
        return self._merged(params) if self.adapted else params

    @functools.cached_property
    def _merged(self):
        kept = {name: part for name, part in self.state_shardings.params.items() if name != "lora"}
        return jax.jit(self.trainable.merged, out_shardings=kept)

    @functools.cached_property
    def _new_state(self):
        return jax.jit(self.new_state, out_shardings=self.state_shardings)

    def train_step(self):
        """The jitted step in core, (state, batch) -> (state, metrics); it consumes the state."""
        parts = self.graph, self.losses, self.optimizer, self.config.microbatch
        step = functools.partial(train_step, *parts, trainable=self.trainable)
        return jax.jit(step, donate_argnums=0, out_shardings=(self.state_shardings, replicated(self.mesh)))

    @property
    def cut(self) -> Cut:
        """How a batch is read out of core."""
        return Cut(self.config.batch_size, batch_shards(self.mesh), self.config.microbatch)

    @functools.cached_property
    def out_of_core_step(self) -> OutOfCore:
        """The step of `mode="out_of_core"`; like the other one it wants the mesh to be the ambient one."""
        parts = self.graph, self.losses, self.optimizer, self.mesh, self.cut, self.state_structure
        return OutOfCore(*parts, self.trainable)


def _open(key: str, spec: str, opening: Callable[[str], Source] = open_source) -> Source:
    try:
        return opening(spec)
    except InputError as error:
        raise InputError(f"config.{key}: {error}") from error


def _is_axes(leaf: Any) -> bool:
    return isinstance(leaf, tuple)


def _scalar_axes(loss: Any) -> dict[str, tuple]:
    return {name: (None,) * value.ndim for name, value in jax.eval_shape(loss.init).items()}
