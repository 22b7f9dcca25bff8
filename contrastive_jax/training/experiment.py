"""What a config describes: a run's parts, built and checked."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from contrastive_jax.branches import Graph
from contrastive_jax.data import pipeline
from contrastive_jax.data.faults import Access
from contrastive_jax.data.numbering import Numbering, numbering
from contrastive_jax.data.records import Source
from contrastive_jax.data.skipping import numbers_of
from contrastive_jax.data.sources import open_source
from contrastive_jax.data.walks import ORDERS
from contrastive_jax.distributed.mesh import batch_shards, replicated
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.distributed.sharding import shardings
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.opening import opened
from contrastive_jax.training import lora, optimizer, starting
from contrastive_jax.training.checks import (
    check_choices,
    check_division,
    check_fields,
    check_memory,
    check_numbers,
    check_queues,
    check_schedule,
    check_wiring,
    view_fields,
)
from contrastive_jax.training.comparisons import check_batch_norms, check_evaluator_widths, check_negatives
from contrastive_jax.training.microbatch import Cut
from contrastive_jax.training.out_of_core import OutOfCore
from contrastive_jax.training.schema import Config
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.step import train_step
from contrastive_jax.training.structure import named_leaves
from contrastive_jax.training.trainable import Trainable


class Experiment:
    """A built config, with everything that its train step needs; opens no source, makes no array.

    Raises InputError, naming the key, for parts that do not fit each other or, if it is for `training`,
    for a batch or a parameter that does not divide over the devices.
    """

    def __init__(self, config: Config, devices=None, training: bool = True):
        self.config = config
        check_numbers(config)
        check_choices(config)
        check_schedule(config)
        self.mesh: Mesh = config.mesh.make(devices)
        structures = {name: view.structure() for name, view in config.data.views.items()}
        counts = {name: view.count for name, view in config.data.views.items() if view.count}
        parts = config.branches, config.encoders, config.heads, structures
        self.graph = Graph(*parts, config.teachers, config.memory, counts)
        self.losses: Mapping[str, Any] = config.losses
        check_wiring(self)
        if training:
            check_evaluator_widths(config.evaluation.evaluators if config.evaluation else {}, self.graph)
            check_negatives(config)
            check_batch_norms(config, self.graph)
            check_division(config, batch_shards(self.mesh))
            check_memory(config, self.graph, batch_shards(self.mesh))
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
        self.begun_with(config.steps)
        self._starts: list[starting.Start] | None = None

    def begun_with(self, steps: int) -> None:
        """Makes the optimizer of a run that was to have so many steps at its first start."""
        trained, _ = self.trainable.split(optimizer.decaying(self.axes))
        chosen, total = self.config.optimizer, self.config.steps
        self.optimizer: optax.GradientTransformation = chosen.transformation(total, trained, steps)
        self.rate: optax.Schedule = chosen.schedule(total, steps)
        self.__dict__.pop("out_of_core_step", None)

    @property
    def fields(self) -> tuple[str, ...]:
        """The batch fields that losses and memories read."""
        readers = *self.losses.values(), *self.config.memory.values()
        return tuple(sorted({name for reader in readers for name in reader.fields}))

    @functools.cached_property
    def source(self) -> Source:
        """The training records; opened when first asked for."""
        data = self.config.data
        access = Access(data.file_bytes, data.retry_seconds)
        return _open("data.source", data.source, functools.partial(open_source, access=access))

    def evaluator_sources(self, name: str) -> list[Source]:
        """The records that an evaluator reads, first those that it is run on; opened when first asked for."""
        common, where = self.config.evaluation.source, f"evaluation.evaluators.{name}"
        specs = self.config.evaluation.evaluators[name].sources
        return [_open("evaluation.source" if s is None else where, s or common, opened) for s in specs]

    @functools.cached_property
    def sampler(self) -> Any:
        """Which records of `source` make the batch of a step."""
        data, size, seed = self.config.data, self.config.batch_size, self.config.seed
        return data.sampler.bind(self.source, size, seed, data.order or ORDERS[-1])

    @functools.cached_property
    def numberings(self) -> dict[str, Numbering]:
        """How the batch fields of `source` are numbered; it may read a field of all records."""
        names: dict[str, Numbering] = {}  # all members of a row are numbered alike
        for where, field in self._labels:
            try:
                name = field.partition(":")[0]
                names[name] = names.get(name) or numbering(self.source, name)
            except InputError as error:
                raise InputError(f"config.{where}: {error}") from error
        return {field: names[field.partition(":")[0]].of(field) for field in self.fields}

    @property
    def _labels(self) -> list[tuple[str, str]]:
        """(the key that reads it, batch field)."""
        kinds = ("losses", self.losses), ("memory", self.config.memory)
        parts = [(f"{kind}.{name}", part) for kind, parts in kinds for name, part in parts.items()]
        return [(where, field) for where, part in parts for field in part.fields]

    @functools.cached_property
    def skipped(self) -> frozenset[int]:
        """The records of `source` that are not trained on; looked up when first asked for."""
        return numbers_of(self.source, self.config.data.skip)

    def check_data(self) -> None:
        """Opens the sources, and raises InputError for what they lack of what the config reads of them."""
        views = self.config.data.views
        wanted = [w for name, view in views.items() for w in view_fields(f"config.data.views.{name}", view)]
        labels = [(f"config.{where}", field.partition(":")[0]) for where, field in self._labels]
        check_fields(self.source, wanted + labels)
        pipeline.check_members(views, self.sampler, self.fields)
        check_queues(self.config, self.numberings)
        _ = self.skipped  # raises
        if self.config.evaluation:
            for name, evaluator in self.config.evaluation.evaluators.items():
                named = [(f"config.evaluation.evaluators.{name}", field) for field in evaluator.fields]
                for source in self.evaluator_sources(name):
                    check_fields(source, named)

    def new_state(self, key: jax.Array) -> TrainState:
        """The state before the first step; pure."""
        own = {name: loss.init() for name, loss in self.losses.items()}
        params = {**self.graph.init(jax.random.fold_in(key, 0)), "losses": own}
        if self.adapted:
            params["lora"] = lora.init(jax.random.fold_in(key, 2), self.adapted)
        run_key, (trained, _) = jax.random.fold_in(key, 1), self.trainable.split(params)
        beside = self.graph.beside(jax.random.fold_in(key, 3), self.trainable.merged(params))
        step, opt_state = jnp.zeros((), jnp.int32), self.optimizer.init(trained)
        return TrainState(step, params, opt_state, **beside, key=run_key)

    @property
    def state_axes(self) -> dict[str, Any]:
        """The logical axis names of the state's arrays, all but the optimizer's."""
        return {"params": self.axes, **self.graph.beside_axes(self.axes)}

    @functools.cached_property
    def state_structure(self) -> TrainState:
        """The state's shapes and dtypes with their shardings: moments lie where their parameters do."""
        shapes = jax.eval_shape(lambda: self.new_state(jax.random.key(0)))
        placed = {
            part: shardings(axes, getattr(shapes, part), self.mesh) for part, axes in self.state_axes.items()
        }
        everywhere = replicated(self.mesh)
        trained = (self.trainable.split(tree)[0] for tree in (shapes.params, placed["params"]))
        opt_state = optimizer.moment_shardings(self.optimizer, shapes.opt_state, *trained, everywhere)
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
            starting.check_views(self._starts, self.graph, self.config.data.views)

    def initial_state(self, group: Group = ALONE) -> TrainState:
        """`new_state` of the config's seed, made where it belongs, with the weights of `init_from` in it."""
        state = self._new_state(jax.random.key(self.config.seed))
        self.find_starts(group)
        starts, self._starts = self._starts or [], None
        if not starts:
            return state
        params = starting.started(starts, state.params)
        starting.check_scales(self.losses, starts, params)
        return state._replace(params=params, teachers=self._copies(params))

    def merged(self, params: Any) -> Any:
        """The parameters of the model itself: where there are adapters, merged into their matrices."""
        return self._merged(params) if self.adapted else params

    def model(self, params: Any, teachers: Any, statistics: Any) -> dict[str, Any]:
        """What evaluation embeds with: `merged` parameters, and what stands beside them."""
        return {**self.merged(params), "teachers": teachers, "statistics": statistics}

    @functools.cached_property
    def _merged(self):
        kept = {name: part for name, part in self.state_shardings.params.items() if name != "lora"}
        return jax.jit(self.trainable.merged, out_shardings=kept)

    @functools.cached_property
    def _copies(self):
        def copies(params):
            return jax.tree.map(jnp.copy, self.graph.copies(self.trainable.merged(params)))

        return jax.jit(copies, out_shardings=self.state_shardings.teachers)

    @functools.cached_property
    def _new_state(self):
        return jax.jit(self.new_state, out_shardings=self.state_shardings)

    def train_step(self):
        """The jitted step in core, (state, batch) -> (state, metrics); it consumes the state."""
        parts = self.graph, self.losses, self.optimizer, self.config.microbatch
        options = {"trainable": self.trainable, "steps": self.config.steps, "skip_bad": self._skip_bad}
        step = functools.partial(train_step, *parts, **options)
        return jax.jit(step, donate_argnums=0, out_shardings=(self.state_shardings, replicated(self.mesh)))

    @property
    def cut(self) -> Cut:
        """How a batch is read out of core."""
        return Cut(self.config.batch_size, batch_shards(self.mesh), self.config.microbatch)

    @functools.cached_property
    def out_of_core_step(self) -> OutOfCore:
        """The step of `mode="out_of_core"`; like the other one it wants the mesh to be the ambient one."""
        parts = self.graph, self.losses, self.optimizer, self.mesh, self.cut, self.state_structure
        return OutOfCore(*parts, self.trainable, self.config.steps, self._skip_bad)

    @property
    def _skip_bad(self) -> bool:
        return self.config.skip_bad_steps > 0


def _open(key: str, spec: str, opening: Callable[[str], Source] = open_source) -> Source:
    try:
        return opening(spec)
    except InputError as error:
        raise InputError(f"config.{key}: {error}") from error


def _is_axes(leaf: Any) -> bool:
    return isinstance(leaf, tuple)


def _scalar_axes(loss: Any) -> dict[str, tuple]:
    return {name: (None,) * value.ndim for name, value in jax.eval_shape(loss.init).items()}
