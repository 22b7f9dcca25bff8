"""What a view says of itself: the shape of its examples, and which settings it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    import jax


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
