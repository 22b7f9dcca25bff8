"""A sheet of cells, each a picture or a text with a line above it: people look before they read."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from contrastive_jax.data.pictures import as_array, is_picture
from contrastive_jax.data.records import BrokenRecord
from contrastive_jax.written import printable

_SIDE = 128
_INCHES = 1.6
_LETTERS = 24


class Cell(NamedTuple):
    """content: an encoded picture, an array of one, or a text; above: a line or two."""

    content: Any
    above: str = ""


def cell_of(record: Mapping[str, Any], field: str | None = None) -> Cell:
    """A record by one of its fields, or by its first picture or else its first text, with its caption or key
    above."""
    pictures = [name for name, value in record.items() if is_picture(name, value) or _is_array(value)]
    texts = [name for name, value in record.items() if isinstance(value, str) and name != "key"]
    field = field or next(iter((*pictures, *texts)), None)
    below = next(
        (name for name in ("text", "label_name", "key", *texts) if name in record and name != field), ""
    )
    return Cell(record.get(field, ""), str(record.get(below, "")))


def sheet(cells: Sequence[Cell], title: str, columns: int = 8) -> Figure:
    """The cells row by row; one whose picture cannot be decoded says so."""
    columns = max(1, min(columns, len(cells)))
    rows = -(-len(cells) // columns)
    figure = Figure(figsize=(_INCHES * columns, _INCHES * 1.2 * rows + 0.5), layout="constrained")
    figure.suptitle(plain(title), fontsize=9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, cell in zip(grid.flat, cells):
        draw(axes, cell.content)
        above = "\n".join(textwrap.wrap(cell.above, _LETTERS, max_lines=2, placeholder="…"))
        axes.set_title(plain(above), fontsize=6, pad=3)
    return figure


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim in (2, 3) and value.dtype == np.uint8


def draw(axes: Any, content: Any) -> None:
    """A picture or a text, or the first of several; a picture that cannot be decoded says so."""
    if isinstance(content, (list, tuple)):
        content = next(iter(content), "")
    if isinstance(content, bytes) or _is_array(content):
        try:
            axes.imshow(as_array(content, _SIDE), cmap="gray", vmin=0, vmax=255)
            return
        except BrokenRecord:
            content = "cannot be decoded"
    text = "\n".join(textwrap.wrap(str(content), _LETTERS)[:6])
    axes.text(0.5, 0.5, plain(text), ha="center", va="center", fontsize=7, transform=axes.transAxes)


def plain(text: str) -> str:
    """A text of which matplotlib takes no part for mathematics, and which it can draw."""
    return "\n".join(map(printable, text.split("\n"))).replace("$", r"\$")
