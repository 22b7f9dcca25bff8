"""Standard output belongs to a command's answer alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
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
