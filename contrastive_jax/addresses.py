"""Paths that are addresses of a store, such as ``s3://bucket/folder``, and paths that only look so."""

from __future__ import annotations

import re

from contrastive_jax.errors import InputError

STORES = ("s3", "gs")
"""The stores that a run can live in."""

# `s3:/x` too: taken for a local path, it would make a folder called `s3:`.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):[/:]")


def scheme(path: str) -> str | None:
    """`s3` of ``s3://bucket/folder`` and of ``s3:/bucket``; None of a local path."""
    found = _ADDRESS.match(path)
    return found and found.group(1)


def check_local(path: str) -> str:
    """The path itself, if it is local; InputError otherwise, before it becomes a folder called `s3:`."""
    if (kind := scheme(path)) is not None:
        raise InputError(
            f"{_cut(path)} is an address ({kind}:), and only a local path will do here: give one, "
            f"or ./{_cut(path)} for a folder that is called so"
        )
    return path


def check_place(path: str) -> str:
    """The path itself, if it is local or of a store that a run can live in; InputError otherwise."""
    kind = scheme(path)
    if kind is not None and not re.match(rf"({'|'.join(STORES)})://[^/]", path):
        known = " or ".join(f"{store}://bucket/folder" for store in STORES)
        raise InputError(
            f"{_cut(path)} is no address of a store that a run can live in: give {known}, a local path, "
            f"or ./{_cut(path)} for a folder that is called so"
        )
    return path


def _cut(path: str) -> str:
    return path if len(path) <= 100 else f"{path[:99]}…"
