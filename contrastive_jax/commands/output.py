"""Standard output belongs to a command's answer alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from contrastive_jax.written import printable

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def reserved_stdout() -> Iterator[IO[str]]:
    """A stream on the real standard output, while descriptor 1 leads to standard error.

    Libraries print to descriptor 1 from C++; so this comes before any of them starts.
    """
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    # Half a character is no UTF-8; written as an escape, it is still JSON.
    with os.fdopen(real, "w", encoding="utf-8", errors="backslashreplace") as stream:
        yield stream


def answer(stream: IO[str], values: Mapping[str, Any], as_json: bool) -> None:
    """Figures as one JSON object, or as a short table for people."""
    if as_json:
        print(json.dumps(values), file=stream)
        return
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in values.items():
        table.add_row(printable(name), f"{value:.4f}" if isinstance(value, float) else printable(str(value)))
    console(stream).print(table)


def console(stream: IO[str], wide: int | None = None) -> Console:
    """A rich console that takes no text for markup; `wide`: its columns where the stream is no terminal."""
    from rich.console import Console

    width = None if wide is None or stream.isatty() else wide
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal; gives what is to be called with every advance."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown_on = console(sys.stderr)
    columns = TextColumn(label, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=shown_on, disable=not shown_on.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def shown(value: Any, width: int = 60) -> str:
    """A value in one line of at most `width` characters; bytes and arrays by their size."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if hasattr(value, "shape") and getattr(value, "ndim", 0):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = printable(" ".join(str(value).split()))
    return text if len(text) <= width else f"{text[: width - 1]}…"
