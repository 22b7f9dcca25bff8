"""A sheet of queries with what was retrieved for each: people look before they read."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.data.records import Source
from contrastive_jax.evaluation.cells import draw, plain
from contrastive_jax.evaluation.embedding import Embedder
from contrastive_jax.evaluation.retrieval import Found, Retrieval


def shown_answers(retrieval: Retrieval, embed: Embedder, source: Source, answers: int = 5) -> Found:
    """What `contact_sheet` shows: all that several processes must do together."""
    return retrieval.find(embed, source, retrieval.rows, retrieval.columns, answers)


def contact_sheet(
    retrieval: Retrieval,
    embed: Embedder,
    source: Source,
    queries: int = 24,
    answers: int = 5,
    found: Found | None = None,
) -> Figure:
    """Queries of `retrieval.rows`, evenly spread over the source, with their nearest of `retrieval.columns`.

    Right answers have a green frame, the others a grey one. found: `shown_answers`, where it is known.
    """
    found = found or shown_answers(retrieval, embed, source, answers)
    asked, given = (retrieval.items(embed, source, b).source for b in (retrieval.rows, retrieval.columns))
    chosen = np.linspace(0, len(found.queries) - 1, min(queries, len(found.queries))).astype(int)
    panels, answers = 2, found.nearest.shape[1]
    height = -(-len(chosen) // panels)
    fields = [embed.view(branch).field for branch in (retrieval.rows, retrieval.columns)]
    widths = [_width(asked, fields[0])] + [_width(given, fields[1])] * answers + [0.3]
    figure = Figure(figsize=(0.9 * panels * sum(widths), 0.9 * height + 0.5), layout="constrained")
    figure.suptitle(
        f"{retrieval.rows} → {retrieval.columns}: queries, each with its {answers} nearest; "
        "right ones are framed green"
    )
    grid = figure.subplots(height, panels * len(widths), squeeze=False, width_ratios=widths * panels)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, query in enumerate(chosen):
        panel, row = divmod(place, height)
        cells = grid[row, panel * len(widths) :]
        _show(cells[0], asked[int(found.queries[query])][fields[0]], None)
        for cell, answer, right in zip(cells[1:], found.nearest[query], found.right[query]):
            if answer >= 0:
                _show(cell, given[int(answer)][fields[1]], bool(right))
    return figure


def _width(source: Source, field: str) -> float:
    return 2.4 if isinstance(source[0][field], str | list) else 1.0


def _show(axes: Any, content: Any, right: bool | None) -> None:
    """A text or a picture; `right` None is a query."""
    if isinstance(content, list):
        content = content[0]
    if isinstance(content, str):
        colour = {None: "black", True: "tab:green", False: "grey"}[right]
        text = plain("\n".join(textwrap.wrap(content, 24)[:4]))
        axes.text(
            0.98, 0.5, text, ha="right", va="center", fontsize=8, color=colour, transform=axes.transAxes
        )
        return
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    draw(axes, content)
    colour, width = {None: ("black", 0.8), True: ("tab:green", 3.0), False: ("lightgrey", 0.8)}[right]
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=width)
