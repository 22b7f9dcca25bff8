"""What can be wrong with a config, by key; each check raises InputError."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from contrastive_jax.branches import named
from contrastive_jax.configuration import nearest
from contrastive_jax.data import views
from contrastive_jax.data.numbering import NoLabel, label
from contrastive_jax.data.records import Source
from contrastive_jax.data.selection import fields_of, no_field
from contrastive_jax.data.walks import ORDERS
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.embedding import staged
from contrastive_jax.interop import FORMATS
from contrastive_jax.training.comparisons import check_compared
from contrastive_jax.training.save_interval import SaveInterval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contrastive_jax.branches import Graph
    from contrastive_jax.data.numbering import Numbering
    from contrastive_jax.data.tokenizers import Tokenizer
    from contrastive_jax.training.experiment import Config, Experiment

MODES = ("in_core", "out_of_core")


def check_numbers(config: Config) -> None:
    """Every number of a config is in its range."""
    for key, value in {
        "steps": config.steps,
        "batch_size": config.batch_size,
        "microbatch": config.microbatch,
        "logging.every": config.logging.every,
        "logging.collapse_steps": config.logging.collapse_steps,
        "checkpoint.keep": config.checkpoint.keep,
        "checkpoint.keep_every": config.checkpoint.keep_every,
        "evaluation.every": config.evaluation and config.evaluation.every,
        "evaluation.batch_size": config.evaluation and config.evaluation.batch_size,
    }.items():
        if value is not None and value < 1:
            raise InputError(f"config.{key}={value}: give 1 or more")
    for key, value in {
        "data.workers": config.data.workers,
        "data.prefetch": config.data.prefetch,
        "skip_bad_steps": config.skip_bad_steps,
        "data.retry_seconds": config.data.retry_seconds,
    }.items():
        if value < 0:
            raise InputError(f"config.{key}={value}: give 0 or more")
    if not 0 <= config.seed < 2**32:  # JAX's keys would take a larger one for a smaller
        raise InputError(f"config.seed={config.seed}: give a whole number from 0 to {2**32 - 1}")
    if not 0 <= config.data.broken_share <= 1:
        raise InputError(f"config.data.broken_share={config.data.broken_share}: give a share from 0 to 1")
    for key, value in {
        "data.stall_seconds": config.data.stall_seconds,
        "data.file_bytes": config.data.file_bytes,
        "logging.peak_flops": config.logging.peak_flops,
    }.items():
        if value is not None and value <= 0:
            raise InputError(f"config.{key}={value}: give a positive number")
    SaveInterval(config.checkpoint.every)


def check_schedule(config: Config) -> None:
    """Warm-up and cool-down, which are cut to the steps of a run, are whole in it."""
    given = config.optimizer
    if given.warmup_steps is not None and given.warmup_steps >= config.steps:
        raise InputError(
            f"config.optimizer.warmup_steps={given.warmup_steps}: give less than steps={config.steps}"
        )
    key = "cooldown" if given.cooldown_steps is None else "cooldown_steps"
    down = round(given.cooldown * config.steps) if given.cooldown_steps is None else given.cooldown_steps
    up = round(given.warmup * config.steps) if given.warmup_steps is None else given.warmup_steps
    if down and up + down > config.steps:
        raise InputError(
            f"config.optimizer.{key}={getattr(given, key)}: {down} steps after a warm-up of {up} are more "
            f"than the run's {config.steps}; give less of either"
        )


def check_choices(config: Config) -> None:
    """What a config chooses is among what there is."""
    if config.data.order not in (None, *ORDERS):
        raise InputError(
            f"config.data.order={config.data.order}: give {' or '.join(map(str, ORDERS))}, or None"
        )
    if config.mode not in MODES:
        raise InputError(f"config.mode={config.mode} is unknown; {nearest(config.mode, MODES)}")
    for text in config.export:
        if (format := text.partition(":")[0]) not in FORMATS:
            raise InputError(f"config.export={text}: unknown format; {nearest(format, FORMATS)}")
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
    for name, loss in config.losses.items():
        check_loss(f"config.losses.{name}", loss, graph)
    for name in config.losses:
        if config.evaluation and name in config.evaluation.evaluators:  # their metrics stand in one line
            where = f"config.evaluation.evaluators.{name}"
            raise InputError(f"{where}: a loss is called so too; rename one of them")
    best = (config.checkpoint.best or "").partition("/")
    evaluators = config.evaluation.evaluators if config.evaluation else {}
    check_evaluators(evaluators, graph, config.evaluation and config.evaluation.source)
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
    size = getattr(config.data.tokenizer, "vocabulary", 0)  # a file's is known when it has been read
    for key, encoder in _reading(config, texts):
        if (vocabulary := getattr(encoder, "vocabulary", size)) < size:
            raise InputError(
                f"{key}.vocabulary={vocabulary} is smaller than config.data.tokenizer.vocabulary={size}"
            )


def check_loss(where: str, loss: Any, graph: Graph) -> None:
    """A loss names branches, their stages and memories that are there, and they are as wide as it needs."""
    try:
        for branch in loss.branches:
            named(graph, branch)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    for memory in loss.memories:
        if memory not in graph.memory:
            raise InputError(f"{where}.memory: {memory!r} is unknown; {nearest(memory, graph.memory)}")
        if getattr(loss, "memory_labels", None) and graph.memory[memory].labels is None:
            raise InputError(
                f"{where}.memory_labels={loss.memory_labels}: memory {memory!r} is one queue; "
                f"set config.memory.{memory}.labels, or leave memory_labels out"
            )
    if loss.fewest:
        views = [graph.branches[name.partition(".")[0]].view for name in loss.views]
        if sum(graph.counts.get(view, 1) for view in views) < loss.fewest:
            raise InputError(
                f"{where}.views={loss.views}: it compares at least {loss.fewest} examples of a record; "
                "name more branches, or one whose view has a count"
            )
    mixing = loss.mixed_branch
    if mixing is not None and graph.branches[mixing].mix is None:
        raise InputError(
            f"{where}: branch {mixing!r} mixes nothing; set config.branches.{mixing}.mix to a view"
        )
    check_compared(where, loss, graph)
    for branch in loss.branches if loss.widths else ():
        if (width := graph.width(branch)) < loss.widths:
            raise InputError(
                f"{where}.dims: {loss.widths} is beyond branch {branch!r}, which has {width} numbers"
            )


def check_memory(config: Config, graph: Graph, shards: int) -> None:
    """What a step writes fills each queue evenly, and memories and mixing see the batch whole."""
    for name, queue in config.memory.items():
        view = graph.branches[queue.branch.partition(".")[0]].view
        queue.check_division(name, config.batch_size * graph.counts.get(view, 1), shards)
    for name, branch in graph.branches.items():
        if branch.mix is not None and config.mode == "out_of_core":
            raise InputError(
                f"config.branches.{name}.mix={branch.mix} wants the views of a whole batch, and "
                "config.mode=out_of_core never has them: set config.mode=in_core"
            )


def check_tokenizer(config: Config, tokenizer: Tokenizer) -> None:
    """Every encoder that reads texts has an embedding for each of the tokenizer's ids, and means the same
    ids by padding and end."""
    texts = {name for name, view in config.data.views.items() if isinstance(view, views.Text)}
    for key, encoder in _reading(config, texts):
        vocabulary = getattr(encoder, "vocabulary", len(tokenizer))
        if vocabulary < len(tokenizer):
            raise InputError(
                f"{key}.vocabulary={vocabulary} is smaller than the {len(tokenizer)} ids of the tokenizer "
                f"(config.data.tokenizer): give {len(tokenizer)} or more"
            )
        end, padding = getattr(encoder, "end", None), getattr(encoder, "padding", None)
        # An encoder that looks for the end of a text need not know what fills it up.
        if end is None and padding not in (None, tokenizer.padding):
            raise InputError(
                f"{key}.padding={padding} is not the id {tokenizer.padding} that the tokenizer pads with "
                f"(config.data.tokenizer.padding): set {key}.padding={tokenizer.padding}"
            )
        if end is not None and tokenizer.end[-1:] != (end,):
            raise InputError(
                f"{key}.end={end} is not what the tokenizer ends a text with, "
                f"{tokenizer.end[-1] if tokenizer.end else 'nothing'} (config.data.tokenizer.end)"
            )


def _reading(config: Config, texts: set[str]) -> list[tuple[str, Any]]:
    """(config.encoders.name, encoder) of those that read one of the text views."""
    names = {b.encoder for b in config.branches.values() if b.view in texts and b.encoder}
    return [(f"config.encoders.{name}", config.encoders[name]) for name in sorted(names)]


def check_evaluators(evaluators: Mapping[str, Any], graph: Graph, source: str | None) -> None:
    """Evaluators name branches, or stages of branches, that are there, and have a source."""
    for name, evaluator in evaluators.items():
        where = f"config.evaluation.evaluators.{name}"
        try:
            for branch in evaluator.branches:
                staged(graph, branch)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if source is None and None in evaluator.sources:
            raise InputError(f"{where}.source is None, and so is config.evaluation.source: set one of them")


def check_fields(source: Source, wanted: Sequence[tuple[str, str]]) -> None:
    """Some of a source's records have the fields of `wanted`: (the key or flag that wants it, field).

    Where none can be read nothing is refused: whether there are too many of those, training finds out.
    """
    known = fields_of(source, [name for _, name in wanted])
    for where, name in wanted if known else ():
        if name not in known:
            raise InputError(f"{where}: {no_field(source, name, known)}")
        if where.startswith("config.memory.") and not _is_count(known[name]):
            raise InputError(
                f"{where}.labels={name}: it is {known[name]!r} in {source.name}, and queues "
                "are numbered: give a field of whole numbers from 0"
            )


def view_fields(where: str, view: Any) -> list[tuple[str, str]]:
    """(key, field) of what a view reads of every record; nothing of one that no record need have."""
    if view.missing == 1:
        return []
    further = [(key, field) for key in ("also", "either") for field in getattr(view, key, ())]
    return [(f"{where}.{key}", field) for key, field in (("field", view.field), *further)]


def check_queues(config: Config, numberings: Mapping[str, Numbering]) -> None:
    """What tells one queue of a memory from another is a whole number in every record."""
    wanted = [(f"memory.{name}.labels", queue.labels) for name, queue in config.memory.items()]
    for name, loss in config.losses.items():
        inner = getattr(loss, "loss", loss)
        wanted.append((f"losses.{name}.memory_labels", getattr(inner, "memory_labels", None)))
    for where, field in wanted:
        if field is not None and numberings[field].ids:
            raise InputError(
                f"config.{where}={field}: {numberings[field].source} has texts among it, or numbers of more "
                "than 32 bits, and queues are numbered: give a field of whole numbers from 0"
            )


def _is_count(value: Any) -> bool:
    with contextlib.suppress(NoLabel):
        number = label(value)
        return isinstance(number, int) and number >= 0
    return False
