"""The pictures of a run: what it retrieves, and how it got there."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure

from contrastive_jax.data.sources import open_source
from contrastive_jax.evaluation import Retrieval
from contrastive_jax.evaluation.contact_sheet import contact_sheet
from contrastive_jax.evaluation.embedding import Embedder
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.workdir import replace_file


def write_report(
    experiment: Experiment, views: Mapping, params: Any, lines: Sequence[dict], folder: Path
) -> None:
    """`curves.png` from the lines of metrics, and `retrieval.png` of the first retrieval evaluator."""
    folder.mkdir(exist_ok=True)
    _save(curves(lines), folder / "curves.png")
    evaluation = experiment.config.evaluation
    retrievals = [e for e in evaluation.evaluators.values() if isinstance(e, Retrieval)] if evaluation else []
    if not retrievals:
        return
    source = open_source(evaluation.source)
    with jax.set_mesh(experiment.mesh):
        embed = Embedder(experiment.graph, views, params, experiment.mesh, evaluation.batch_size)
        _save(contact_sheet(retrievals[0], embed, source), folder / "retrieval.png")


def curves(lines: Sequence[dict[str, float]]) -> Figure:
    """Loss, and what was evaluated, over steps."""
    evaluated = sorted(
        {name for line in lines for name in line if "/R@" in name or name.endswith("accuracy")}
    )
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([line["step"] for line in lines], [line["loss"] for line in lines], linewidth=1)
    left.set(xlabel="step", ylabel="loss", yscale="log", title="training loss")
    for name in evaluated:
        points = [(line["step"], line[name]) for line in lines if name in line]
        right.plot(*zip(*points), marker="o", markersize=4, linewidth=1, label=name)
    right.set(xlabel="step", ylim=(0, 1), title="evaluation")
    if evaluated:
        right.legend(fontsize=6, loc="best")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def _save(figure: Figure, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    replace_file(path, content.getvalue())
