"""Functions with docstrings, found in Python source by parsing alone; runs as a process of its own.

``python -m contrastive_jax.data.functions < JOBS``: reads a JSON list of ``{"package", "output", "files":
[[module, path], ...]}`` and writes each package's functions to its output, one JSON object a line. It imports
nothing of what it reads, and executes nothing of it.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import sys
import textwrap
import tokenize
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 1  # of what `functions` makes of a file
_LARGEST = 400_000  # bytes of a file; larger ones are generated
_FEWEST_LINES, _FEWEST_WORDS = 3, 3


def functions(source: bytes) -> Iterator[dict[str, Any]]:
    """The functions of a file that have a docstring and something else to show.

    As in CodeSearchNet (Husain et al. 2019, arXiv 1909.09436): of the docstring the first paragraph, of at
    least three words; code of at least three lines without it; no ``__special__`` methods, no tests.

    Yields:
        ``{"docstring", "code" (without docstring and decorators), "name", "qualified_name", "line"}``

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: it is no Python that this version reads.
    """
    tree = ast.parse(source)
    # Not splitlines, which also divides at form feeds, where Python counts no line.
    lines = re.split(r"\r\n?|\n", source.decode(_encoding(source)))
    for name, node in _definitions(tree, ""):
        summary = _summary(ast.get_docstring(node, clean=True) or "")
        if node.name.startswith(("__", "test_")) or len(summary.split()) < _FEWEST_WORDS:
            continue
        code = _code(node, lines)
        if code.count("\n") + 1 >= _FEWEST_LINES:
            yield {
                "docstring": summary,
                "code": code,
                "name": node.name,
                "qualified_name": name,
                "line": node.lineno,
            }


def _definitions(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield scope + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _definitions(child, f"{scope}{child.name}.")
        elif isinstance(child, (ast.If, ast.Try, ast.With)):
            yield from _definitions(child, scope)


def _encoding(source: bytes) -> str:
    rest = iter(source.splitlines(keepends=True))
    return tokenize.detect_encoding(lambda: next(rest, b""))[0]


def _summary(docstring: str) -> str:
    paragraph = re.split(r"\n\s*\n", inspect.cleandoc(docstring).strip(), maxsplit=1)[0]
    kept = []
    for line in paragraph.splitlines():
        # Doctests, field lists and underlined headings are not what the function is for.
        if line.lstrip().startswith((">>>", ":param", ":return", "@param", "Args:", "Parameters")):
            break
        if not re.fullmatch(r"\s*[-=~^*]{3,}\s*", line):
            kept.append(line.strip())
    return " ".join(" ".join(kept).split())


def _code(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    documentation = node.body[0]
    if documentation.lineno == node.lineno:
        return ""  # all on one line
    kept = (
        lines[node.lineno - 1 : documentation.lineno - 1] + lines[documentation.end_lineno : node.end_lineno]
    )
    return textwrap.dedent("\n".join(line for line in kept if line.strip())).strip()


def _write(job: dict[str, Any]) -> None:
    found = []
    for module, path in job["files"]:
        try:
            if os.path.getsize(path) > _LARGEST:
                continue
            with open(path, "rb") as file:
                inside = list(functions(file.read()))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError, LookupError):
            continue
        for function in inside:
            name = f"{module}.{function['qualified_name']}"
            found.append(
                {"key": f"{name}:{function['line']}"}
                | function
                | {"qualified_name": name, "package": job["package"], "module": module, "file": path}
            )
    temporary = f"{job['output']}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8", errors="replace") as file:
        file.writelines(json.dumps(function, ensure_ascii=False) + "\n" for function in found)
    os.replace(temporary, job["output"])


if __name__ == "__main__":
    for each in json.load(sys.stdin):
        _write(each)
