"""Random keys of parts by their names, and of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax

if TYPE_CHECKING:
    from jaxtyping import Array, Key


def each_its_own(keys: Key[Array, " b"], count: int) -> Key[Array, "b K"]:
    """`count` keys of each."""
    return jax.vmap(lambda key: jax.random.split(key, count))(keys)


def fold_name(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """A key for a name that does not depend on what other names there are."""
    for byte in name.encode():
        key = jax.random.fold_in(key, byte)
    return key
