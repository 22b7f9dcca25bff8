"""Compiled programs kept on disk, so that a run that resumes need not compile again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from contrastive_jax.data import cache
from contrastive_jax.training.stores.paths import StorePath


@contextmanager
def kept_programs(folder: Path) -> Iterator[None]:
    """JAX's compilation cache is in `folder` meanwhile, unless JAX_COMPILATION_CACHE_DIR puts it elsewhere.

    JAX keeps what took it over a second to compile and finds it again by the program, its options, the
    devices and JAX's version; an entry that is damaged or cannot be written costs a warning. It does not
    tell one CPU from another, and code for one with more instructions would crash on the other: each
    kind has a folder of its own. Of several processes the first one writes.
    """
    if jax.config.jax_compilation_cache_dir:
        yield
        return
    _use(str(folder / host()))
    try:
        yield
    finally:
        _use(None)


def programs_folder(run: Path | StorePath) -> Path:
    """Where a run keeps its programs: in its folder, or on this machine if that is in a store."""
    return (run if isinstance(run, Path) else cache.folder()) / "programs"


def host() -> str:
    """A name that hosts with the same instructions share."""
    instructions = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        instructions = next((line for line in lines if line.startswith(("flags", "Features"))), instructions)
    return f"{platform.machine()}-{hashlib.sha256(instructions.encode()).hexdigest()[:8]}"


def _use(folder: str | None) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # it looks at the setting once, when a process first compiles
