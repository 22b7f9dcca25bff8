"""Arrays kept between runs in the user's cache folder, each file with its checksum beside it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from contrastive_jax.addresses import check_local
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)
_STALE_SECONDS = 3600


def folder() -> Path:
    """The cache folder: $CONTRASTIVE_JAX_CACHE, or contrastive_jax in $XDG_CACHE_HOME or ~/.cache.

    Raises:
        InputError: an address of a store.
    """
    if own := os.environ.get("CONTRASTIVE_JAX_CACHE"):
        try:
            return Path(check_local(own))
        except InputError as error:
            raise InputError(f"CONTRASTIVE_JAX_CACHE: {error}") from error
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "contrastive_jax"


def cached(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of `make()`, read from the cache where an intact copy is, else made and kept there.

    A file that does not match its checksum, or has none, is made again with a warning; so one torn by
    a kill is never used, and processes that make it at once each write the same bytes. A folder that
    cannot be written costs a warning only.

    Args:
        name: the file's name without its ending; it must hold all that the arrays depend on.
        make: makes the arrays; it must always make the same ones.
    """
    path = folder() / f"{name}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = make()
        try:
            _write(path, arrays)
        except OSError as error:
            _log.warning("cannot keep %s (%s); going on without the cache", path, error.strerror or error)
    return arrays


def _checksum_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _read(path: Path) -> dict[str, np.ndarray] | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("cannot read %s (%s); making it again", path, error.strerror or error)
        return None
    try:
        words = _checksum_path(path).read_bytes().split()
    except OSError:
        words = []
    # A kill between the two renames leaves exactly this, so it is no reason for more than a warning.
    if not words or words[0] != hashlib.sha256(content).hexdigest().encode():
        _log.warning("%s does not match its checksum; making it again", path)
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    content = buffer.getvalue()
    line = f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
    replace(path, content)
    replace(_checksum_path(path), line.encode())


def replace(path: Path, content: bytes) -> None:
    """Writes a file at once or not at all, with the mode that the umask gives; OSError where that fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # Not by mkstemp, whose files only the owner may read: others use the cache, the indexes and the runs too.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
