"""The pictures of a run: what it retrieves, and how it got there."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from contrastive_jax.distributed.processes import ALONE, Group
from contrastive_jax.evaluation import Retrieval
from contrastive_jax.evaluation.cells import plain
from contrastive_jax.evaluation.contact_sheet import contact_sheet, shown_answers
from contrastive_jax.evaluation.embedding import Embedder
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.stores.paths import StorePath
from contrastive_jax.training.workdir import replace_file

log = logging.getLogger(__name__)

_DRAWN = re.compile(r"/(R@\d+|nDCG@\d+|MRR|MRR@\d+|spearman|accuracy|balanced_accuracy|\w+_score)$")
_MOST = 24


def write_report(
    experiment: Experiment,
    views: Mapping,
    params: Any,
    lines: Sequence[dict],
    folder: Path | StorePath,
    group: Group = ALONE,
) -> None:
    """`curves.png` from the lines of metrics, and `retrieval.png` of the first retrieval evaluator.

    Every process embeds, process 0 draws. A picture that cannot be drawn is named in the log: it must not
    keep a run from its end. But what one of several processes cannot embed ends it: the others would wait.
    """
    if group.first:
        _draw(lambda: curves(lines), folder / "curves.png")
    evaluation = experiment.config.evaluation
    evaluators = evaluation.evaluators if evaluation else {}
    name = next((n for n, evaluator in evaluators.items() if isinstance(evaluator, Retrieval)), None)
    if name is None:
        return
    retrieval, source = evaluators[name], experiment.evaluator_sources(name)[0]
    with jax.set_mesh(experiment.mesh):
        embed = Embedder(experiment.graph, views, params, experiment.mesh, evaluation.batch_size)
        found = shown_answers(retrieval, embed, source) if group.count > 1 else None
        if group.first:
            _draw(lambda: contact_sheet(retrieval, embed, source, found=found), folder / "retrieval.png")


def curves(lines: Sequence[dict[str, float]]) -> Figure:
    """Loss, and what was evaluated, over steps; a single evaluation is drawn as bars."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([line["step"] for line in lines], [line["loss"] for line in lines], linewidth=1)
    left.set(xlabel="step", yscale="log", title="training loss", xlim=(0, lines[-1]["step"] * 1.03))
    left.yaxis.set_major_formatter(LogFormatter())
    left.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.6)))
    figures = {
        name: [(line["step"], line[name]) for line in lines if name in line]
        for name in shown(dict.fromkeys(name for line in lines for name in line))
    }
    lowest = min((value for points in figures.values() for _, value in points), default=0)
    if all(len(points) == 1 for points in figures.values()):
        values = [points[0][1] for points in figures.values()]
        bars = right.barh(list(map(plain, figures)), values, color="C0")
        right.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
        right.set(xlim=(min(0, 1.1 * lowest), 1.1))
        right.invert_yaxis()
    else:
        for (name, points), style in zip(figures.items(), _styles(list(figures))):
            right.plot(*zip(*points), marker="o", markersize=4, linewidth=1.2, label=plain(name), **style)
        right.set(xlabel="step", ylim=(min(0, lowest), 1), xlim=left.get_xlim())
        right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    right.set(title="evaluation")
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
        axes.set_axisbelow(True)
    return figure


def shown(names: Iterable[str]) -> list[str]:
    """The metrics that are drawn: those from 0 to 1 that say how good a model is, not those of each group."""
    return [name for name in names if _DRAWN.search(name)][:_MOST]


def _styles(names: Sequence[str]) -> list[dict[str, str]]:
    """One colour for figures of the same last name; a second one of it is dashed, a third dotted."""
    last = [name.rpartition("/")[2] for name in names]
    colours = {name: f"C{number}" for number, name in enumerate(dict.fromkeys(last))}
    seen = [last[:place].count(name) for place, name in enumerate(last)]
    return [{"color": colours[name], "linestyle": ("-", "--", ":")[min(n, 2)]} for name, n in zip(last, seen)]


def _draw(picture: Callable[[], Figure], path: Path | StorePath) -> None:
    try:
        content = io.BytesIO()
        picture().savefig(content, format="png", dpi=150)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, content.getvalue())
    except Exception as error:
        told = f"{type(error).__name__}: {error}"[:200]
        log.warning("%s is not drawn: %s", path, *told.splitlines()[:1])
