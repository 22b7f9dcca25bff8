"""What a view says of itself: which record it shows and how often, the shape of its examples, and which
settings it refuses."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax
    from jaxtyping import Shaped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing(abc.ABC):
    """What all views have in common; a kind of view adds what an example is.

    Args:
        member: which of the records that the sampler drew for a row.
        count: at training, so many examples of the record, drawn one after another, with an axis of their
            own before the others. At evaluation, and where it is None, there is one, without that axis.
        together: a name. Views that give the same name draw the same random numbers for a row, so that
            those with equal settings change their pictures in the same way; others draw apart.
        missing: at training, the probability that a blank stands in for what the record holds. At 1 it
            always does, at evaluation too, and the record need not have the field.
    """

    member: int = 0
    count: int | None = None
    together: str = ""
    missing: float = 0.0

    def __post_init__(self) -> None:
        kind = type(self).__name__.lower()
        require(self.member >= 0, kind, "member", self.member, "0 or more")
        require(self.count is None or self.count >= 1, kind, "count", self.count, "1 or more, or None")
        require(0 <= self.missing <= 1, kind, "missing", self.missing, "in [0, 1]")

    def __call__(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> Shaped[np.ndarray, "..."]:
        """One example, or, at training with `count`, so many of them: [count, ...].

        Raises:
            BrokenRecord: none can be made of the record.
            KeyError: the record has no such field.
        """
        if self.missing == 1:
            examples = [self.blank()] * (self.count or 1)
        elif not train:
            return self.example(record, rng, False)
        else:
            examples = [self.example(each, rng, True) for each in self.given(record, rng)]
            # Drawn last: views that draw together and are missing unequally often still change alike.
            if self.missing and rng.random() < self.missing:
                examples = [self.blank()] * len(examples)
        return np.stack(examples) if train and self.count else examples[0]

    def given(self, record: dict[str, Any], rng: np.random.Generator) -> Sequence[dict[str, Any]]:
        """What each example of the record is made of, at training."""
        return [record] * (self.count or 1)

    @abc.abstractmethod
    def structure(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one example, without the axis of `count`."""

    @abc.abstractmethod
    def example(
        self, record: dict[str, Any], rng: np.random.Generator, train: bool
    ) -> Shaped[np.ndarray, "..."]:
        """One example; with `train` False nothing is drawn."""

    @abc.abstractmethod
    def blank(self) -> Shaped[np.ndarray, "..."]:
        """What stands in for an example that is missing."""


def structure(shape: tuple[int, ...], dtype: type) -> jax.ShapeDtypeStruct:
    """Shape and type of one example."""
    import jax

    return jax.ShapeDtypeStruct(shape, dtype)


def require(good: bool, view: str, key: str, value: object, must: str) -> None:
    """Raises InputError naming the view's key where its value is not `good`."""
    if not good:
        raise InputError(f"view {view!r}: {key}={value!r} must be {must}")


def require_range(view: str, key: str, value: tuple[float, ...], low: float, high: float) -> None:
    """Raises InputError unless value is two numbers, low < first <= second <= high."""
    good = len(value) == 2 and low < value[0] <= value[1] <= high
    upper = f" up to {high:g}" if high < float("inf") else ""
    require(good, view, key, value, f"two ascending numbers over {low:g}{upper}")
