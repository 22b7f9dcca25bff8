"""The sources that evaluators name, each opened once in a process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from contrastive_jax.data.sources import open_source

if TYPE_CHECKING:
    from contrastive_jax.data.records import Source


@functools.lru_cache(maxsize=64)
def opened(spec: str) -> Source:
    """The source of a spec: the same object whenever it is asked for, so that an embedder knows it again.

    Raises InputError for a spec that `open_source` refuses.
    """
    return open_source(spec)
