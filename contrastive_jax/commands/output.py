"""Standard output belongs to a command's answer alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any


@contextmanager
def reserved_stdout() -> Iterator[IO[str]]:
    """A stream on the real standard output, while descriptor 1 leads to standard error.

    Libraries print to descriptor 1 from C++; so this comes before any of them starts.
    """
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(real, "w", encoding="utf-8") as stream:
        yield stream


def answer(stream: IO[str], values: Mapping[str, Any], as_json: bool) -> None:
    """Figures as one JSON object, or as a short table for people."""
    if as_json:
        print(json.dumps(values), file=stream)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in values.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    Console(file=stream).print(table)


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal; gives what is to be called with every advance."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
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
    text = " ".join(str(value).split())
    return text if len(text) <= width else f"{text[: width - 1]}…"
