"""What the evaluators of a config make of a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from contrastive_jax.data.captions import captions
from contrastive_jax.data.tokenizers import Tokenizer
from contrastive_jax.data.views.text import Text
from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.embedding import Embedder
from contrastive_jax.training.checks import check_tokenizer
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.provenance import settle_tokenizer
from contrastive_jax.training.stores.paths import StorePath, content
from contrastive_jax.training.workdir import replace_file


def bind_tokenizer(
    experiment: Experiment, path: Path | StorePath, train: bool = False, group: Group = ALONE
) -> dict[str, Any]:
    """The views with the work directory's tokenizer; one that is not there yet is made with `train`.

    Raises:
        InputError: a tokenizer that cannot be read, or that does not fit an encoder.
    """
    views = experiment.config.data.views
    texts = {name: view for name, view in views.items() if isinstance(view, Text)}
    if not texts:
        return dict(views)
    file = path / "tokenizer.json"
    if train and group.first and not file.exists():
        fields = sorted({field for view in texts.values() if view.missing < 1 for field in view.fields})
        kind, seed = experiment.config.data.tokenizer, experiment.config.seed
        known = captions(experiment.source, fields, getattr(kind, "captions", 0), seed % 2**63)
        replace_file(file, kind.train(known).content().encode())
    if group.first and file.exists():
        settle_tokenizer(path, content(file), note=train)
    group.barrier("the tokenizer")
    tokenizer = Tokenizer.load(file) if isinstance(file, Path) else _fetched(file)
    check_tokenizer(experiment.config, tokenizer)
    return {name: view.bind(tokenizer) if name in texts else view for name, view in views.items()}


def _fetched(file: StorePath) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        try:
            copy.write_bytes(file.read_bytes())
            return Tokenizer.load(copy)
        except (OSError, InputError) as error:
            raise InputError(f"{file}: {str(error).replace(str(copy), file.name)}") from error


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
    evaluation, figures = experiment.config.evaluation, {}
    with jax.set_mesh(experiment.mesh):
        size = evaluation.batch_size
        embed = Embedder(experiment.graph, views, params, experiment.mesh, size, between, remember=True)
        for name, evaluator in evaluation.evaluators.items():
            if names is None or name in names:
                source = experiment.evaluator_sources(name)[:1]
                figures |= {f"{name}/{metric}": value for metric, value in evaluator.run(embed, *source)}
    return figures
