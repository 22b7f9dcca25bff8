"""What can be wrong with a config, by key; each check raises InputError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive_jax.configuration import nearest
from contrastive_jax.data import views
from contrastive_jax.data.records import BrokenRecord, Source
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from contrastive_jax.training.experiment import Config, Experiment

MODES = ("in_core", "out_of_core")


def check_numbers(config: Config) -> None:
    """Every number of a config is in its range."""
    for key, value in {
        "steps": config.steps,
        "batch_size": config.batch_size,
        "microbatch": config.microbatch,
        "logging.every": config.logging.every,
        "checkpoint.every": config.checkpoint.every,
        "checkpoint.keep": config.checkpoint.keep,
        "checkpoint.keep_every": config.checkpoint.keep_every,
        "evaluation.every": config.evaluation and config.evaluation.every,
        "evaluation.batch_size": config.evaluation and config.evaluation.batch_size,
    }.items():
        if value is not None and value < 1:
            raise InputError(f"config.{key}={value}: give 1 or more")
    for key, value in {"data.workers": config.data.workers, "data.prefetch": config.data.prefetch}.items():
        if value < 0:
            raise InputError(f"config.{key}={value}: give 0 or more")
    if not 0 <= config.seed < 2**32:  # JAX's keys would take a larger one for a smaller
        raise InputError(f"config.seed={config.seed}: give a whole number from 0 to {2**32 - 1}")
    if not 0 <= config.data.broken_share <= 1:
        raise InputError(f"config.data.broken_share={config.data.broken_share}: give a share from 0 to 1")
    for key, value in {
        "data.stall_seconds": config.data.stall_seconds,
        "logging.peak_flops": config.logging.peak_flops,
    }.items():
        if value is not None and value <= 0:
            raise InputError(f"config.{key}={value}: give a positive number")
    if config.mode not in MODES:
        raise InputError(f"config.mode={config.mode} is unknown; {nearest(config.mode, MODES)}")
    if not config.losses:
        raise InputError("config.losses is empty: name at least one loss")


def check_division(config: Config, shards: int) -> None:
    """The batch divides over `shards` devices, and a device's share of it into microbatches."""
    batch, microbatch = config.batch_size, config.microbatch
    if batch % shards:
        raise InputError(
            f"config.batch_size={batch} does not divide over {shards} devices: "
            f"give a multiple of {shards}, such as {-(-batch // shards) * shards}"
        )
    if config.mode == "out_of_core" and microbatch is None:
        raise InputError(
            "config.mode=out_of_core reads the batch in microbatches and config.microbatch is None: "
            f"give a divisor of {batch // shards}, the examples of a device"
        )
    if microbatch is not None and (batch // shards) % microbatch:
        raise InputError(
            f"config.microbatch={microbatch} does not divide the {batch // shards} examples of a device "
            f"(config.batch_size={batch} over {shards}): give a divisor of {batch // shards}, or None"
        )


def check_wiring(experiment: Experiment) -> None:
    """Losses, evaluators and text views name what is there."""
    graph, config = experiment.graph, experiment.config
    named = [(f"losses.{name}", loss) for name, loss in config.losses.items()]
    if config.evaluation:
        named += [(f"evaluation.evaluators.{n}", e) for n, e in config.evaluation.evaluators.items()]
    for where, part in named:
        for branch in part.branches:
            if branch not in graph.branches:
                raise InputError(
                    f"config.{where}: branch {branch!r} is unknown; {nearest(branch, graph.branches)}"
                )
    best = (config.checkpoint.best or "").partition("/")
    evaluators = config.evaluation.evaluators if config.evaluation else {}
    if best[1] and best[0] not in evaluators:
        raise InputError(
            f"config.checkpoint.best={config.checkpoint.best}: no evaluator is called {best[0]!r}; "
            f"{nearest(best[0], evaluators)}"
        )
    texts = {name for name, view in config.data.views.items() if isinstance(view, views.Text)}
    if not texts:
        return
    if config.data.tokenizer is None:
        raise InputError(f"config.data.views.{min(texts)} is a text: set config.data.tokenizer")
    for name, branch in config.branches.items():
        vocabulary = getattr(config.encoders[branch.encoder], "vocabulary", None)
        if branch.view in texts and vocabulary is not None and vocabulary < config.data.tokenizer.vocabulary:
            raise InputError(
                f"config.encoders.{branch.encoder}.vocabulary={vocabulary} is smaller than "
                f"config.data.tokenizer.vocabulary={config.data.tokenizer.vocabulary} (branch {name!r})"
            )


def check_fields(source: Source, wanted: list[tuple[str, str]]) -> None:
    """A source's records have the fields of `wanted`: (the key that wants it, field)."""
    try:
        record = source[0]
    except BrokenRecord:
        return  # whether there are too many of them, training finds out
    for where, name in wanted:
        if name not in record:
            raise InputError(f"config.{where}: {source.name} has no field {name!r}; {nearest(name, record)}")
