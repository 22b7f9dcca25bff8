"""What the evaluators of a config make of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from contrastive_jax.data.tokenizers import Tokenizer
from contrastive_jax.data.views import Text
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.evaluation.embedding import Embedder
from contrastive_jax.training.experiment import Experiment


def bind_tokenizer(
    experiment: Experiment, path: Path, train: bool = False, group: Group = ALONE
) -> dict[str, Any]:
    """The views with the work directory's tokenizer; one that is not there yet is trained with `train`."""
    views = experiment.config.data.views
    texts = {name: view for name, view in views.items() if isinstance(view, Text)}
    if not texts:
        return dict(views)
    file = path / "tokenizer.json"
    if train and group.first and not file.exists():
        fields = sorted({view.field for view in texts.values()})
        captions = (text for field in fields for text in experiment.source.column(field))
        experiment.config.data.tokenizer.train(captions).save(file)
    group.barrier("the tokenizer")
    tokenizer = Tokenizer.load(file)
    return {name: view.bind(tokenizer) if name in texts else view for name, view in views.items()}


def evaluate(
    experiment: Experiment,
    views: Mapping[str, Any],
    params: Any,
    between: Callable[[], None] = lambda: None,
    names: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """{"evaluator/metric": value} of the configured evaluators, or of those named.

    `between` is called after every batch; what it raises ends the evaluation.
    """
    evaluation, source = experiment.config.evaluation, experiment.evaluation_source
    figures = {}
    with jax.set_mesh(experiment.mesh):
        embed = Embedder(experiment.graph, views, params, experiment.mesh, evaluation.batch_size, between)
        for name, evaluator in evaluation.evaluators.items():
            if names is None or name in names:
                figures |= {f"{name}/{metric}": value for metric, value in evaluator.run(embed, source)}
    return figures
