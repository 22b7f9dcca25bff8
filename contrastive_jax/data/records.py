"""What a source is, and the error for a record of it that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


class BrokenRecord(InputError):  # noqa: N818
    """One record cannot be read; training replaces it, evaluation stops."""


class Source(Protocol):
    """A random-access sequence of records; it pickles small, and workers open it anew."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def column(self, name: str) -> Sequence[Any]:
        """One field of all records, in order, without the cost of making the records."""
        ...
