"""Whether every text that evaluators read is there, looked up before the first step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.data.views import Text
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.embedding import staged

if TYPE_CHECKING:
    from contrastive_jax.data.records import Source
    from contrastive_jax.training.experiment import Experiment


def check_texts(experiment: Experiment) -> None:
    """Raises InputError for a record that an evaluator reads and that lacks the text which its view takes.

    The fields are read as columns, without pictures; of records whose text is empty or none the record itself
    tells which.
    """
    evaluation, graph, views = experiment.config.evaluation, experiment.graph, experiment.config.data.views
    looked: set[tuple[str, str]] = set()
    for name, evaluator in evaluation.evaluators.items() if evaluation else ():
        for branch in getattr(evaluator, "seen", evaluator.branches):
            view = views[graph.branches[staged(graph, branch)[0]].view]
            if not isinstance(view, Text) or view.missing == 1 or view.either:
                continue
            source, field = experiment.evaluator_sources(name)[0], view.field
            # Of a field that is read as a list of texts an absent one is an empty list.
            if getattr(evaluator, "several", None) != field and (source.name, field) not in looked:
                looked.add((source.name, field))
                _check(f"config.evaluation.evaluators.{name}", source, field)


def _check(where: str, source: Source, field: str) -> None:
    try:
        values = source.column(field)
    except KeyError:
        return  # that no record has it is said elsewhere
    for record, value in enumerate(values):
        if _is_text(value) and len(value):
            continue
        try:
            value = source[record].get(field)
        except BrokenRecord as error:
            raise InputError(f"{where}: {source.name}, record {record}: {error}") from error
        if not _is_text(value):
            raise InputError(
                f"{where}: {source.name}, record {record} has no text in {field!r}; ?keep={field} behind the "
                "source leaves such records out"
            )


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, list, tuple))
