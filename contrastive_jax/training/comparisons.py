"""Whether what losses and evaluators compare fits each other, by shapes; each check raises InputError."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contrastive_jax.data.samplers import Identities
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.embedding import staged_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contrastive_jax.branches import Graph
    from contrastive_jax.training.schema import Config


def check_compared(where: str, loss: Any, graph: Graph) -> None:
    """What a loss compares has one width, and gives one embedding an example where it takes no more."""
    for number, group in enumerate(loss.compared):
        filled = [graph.memory[memory].branch for memory in loss.memories] if number == 0 else []
        check_widths(where, {name: graph.width(name) for name in (*group, *filled)})
    for branch in loss.branches:
        view = graph.branches[branch.partition(".")[0]].view
        if (count := graph.counts.get(view)) and branch not in loss.grouped:
            raise InputError(
                f"{where}: branch {branch!r} gives {count} embeddings an example "
                f"(config.data.views.{view}.count={count}), and it takes one: leave the count out, or name a "
                "branch of another view"
            )


def check_evaluator_widths(evaluators: Mapping[str, Any], graph: Graph) -> None:
    """The branches of each evaluator have one width, without the heads that are for training alone."""
    for name, evaluator in evaluators.items():
        widths = {branch: staged_width(graph, branch) for branch in evaluator.branches}
        check_widths(f"config.evaluation.evaluators.{name}", widths)


def check_widths(where: str, widths: Mapping[str, int]) -> None:
    """Embeddings that are compared are as wide as each other; widths: of branches by their names."""
    first = next(iter(widths), "")
    for name, width in widths.items():
        if width != widths[first]:
            raise InputError(
                f"{where} compares branch {first!r}, which has {widths[first]} numbers, with {name!r}, which "
                f"has {width}: bring both to one width, by a head such as linear, features={widths[first]}"
            )


def check_negatives(config: Config) -> None:
    """Every loss finds something to tell an example apart from; elsewhere it would be 0, or teach that all
    are alike."""
    size, sampler = config.batch_size, config.data.sampler
    for name, loss in config.losses.items():
        if not loss.needs_others:
            continue
        if size == 1:
            raise InputError(
                f"config.batch_size=1 leaves config.losses.{name} nothing to tell an example from: give 2 "
                "or more"
            )
        alike = isinstance(sampler, Identities) and loss.one_kind == sampler.group
        if alike and size == sampler.members:
            raise InputError(
                f"config.batch_size={size} with config.data.sampler.members={size} makes batches of one "
                f"{sampler.group}, which leaves config.losses.{name} nothing to tell an example from: give "
                f"batch_size={2 * size} or more"
            )


def check_batch_norms(config: Config, graph: Graph) -> None:
    """What is normed by its batch is not alone in it: it would be 0, whatever it was."""
    for branch in graph.branches.values():
        if branch.teacher is not None or config.batch_size * graph.counts.get(branch.view, 1) > 1:
            continue
        for name in branch.heads:
            norm = getattr(graph.heads[name], "norm", "none")
            if norm.endswith("batch"):
                raise InputError(
                    f"config.batch_size=1: config.heads.{name}.norm={norm} makes 0 of an embedding that is "
                    "alone in its batch: give 2 or more"
                )
