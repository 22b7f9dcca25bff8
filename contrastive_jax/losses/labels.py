"""The ids that a loss is given: whole numbers in 32 bits, or told apart exactly where they need more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Int


def ids(name: str, *labels: Any) -> tuple[Int[Array, " n"], ...]:
    """Labels that are compared with each other, as JAX arrays: equal ones have equal numbers.

    name: the argument, for errors. Values stay as they are if JAX's integers hold them (32 bits, 64 under
    `jax_enable_x64`). Others are numbered anew, all labels together; only which are equal tells anything.
    Raises ValueError for what is no integer, and for too large values beside labels that are traced.
    """
    plain = [_whole(name, label) for label in labels]
    widest = jnp.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
    there = [x for x in plain if _is_concrete(x)]
    if all(_fit(x, widest) for x in there):
        signed = [x if isinstance(x, jax.Array) else jnp.asarray(x.astype(widest.dtype)) for x in plain]
        if not any(_wraps(x) for x in signed) or len({x.dtype for x in signed}) == 1:
            return tuple(signed)
    if len(there) < len(plain):
        raise ValueError(
            f"{name} holds {_too_large(there, widest)} beside labels that are traced, in {widest.dtype}: "
            "number them anew before jit, np.unique(ids, return_inverse=True)[1]"
        )
    arrays = [np.asarray(x) for x in plain]
    values = np.concatenate([x.astype(object).reshape(-1) for x in arrays])
    numbers = np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int32)
    ends = np.cumsum([x.size for x in arrays])[:-1]
    return tuple(jnp.asarray(n.reshape(x.shape)) for n, x in zip(np.split(numbers, ends), arrays))


def booleans(name: str, label: Any) -> Any:
    """What says yes or no of each example, one array or a pair; ValueError for anything else."""
    if isinstance(label, tuple):
        return tuple(booleans(name, x) for x in label)
    found = label if isinstance(label, jax.Array) else np.asarray(label)
    if found.dtype != bool:
        raise ValueError(f"{name} holds {found.dtype}: give booleans")
    return jnp.asarray(found)


def _whole(name: str, label: Any) -> Any:
    """The label as a JAX or NumPy array of integers."""
    if isinstance(label, jax.Array):
        found, good = label, jnp.issubdtype(label.dtype, jnp.integer)
    else:
        found = np.asarray(label)
        good = found.dtype.kind in "iu"
        if found.dtype == object:  # Python's own integers, of any size
            good = all(isinstance(x, int | np.integer) and not isinstance(x, bool) for x in found.flat)
    if not good:
        raise ValueError(
            f"{name} holds {'text' if found.dtype.kind in 'US' else found.dtype}: give integers; "
            "np.unique(ids, return_inverse=True)[1] numbers anything"
        )
    return found


def _is_concrete(x: Any) -> bool:
    return not isinstance(x, jax.core.Tracer)


def _fit(x: Any, widest: Any) -> bool:
    """Whether NumPy's values are among those of JAX's integers; those that JAX holds already are."""
    if isinstance(x, jax.Array) or not x.size:
        return True
    return int(x.min()) >= int(widest.min) and int(x.max()) <= int(widest.max)


def _too_large(arrays: list, widest: Any) -> str:
    """One value, for an error; what wraps has none that is known."""
    for x in arrays:
        if not _fit(x, widest):
            return str(max((int(x.min()), int(x.max())), key=abs))[:40]
    return "unsigned integers"


def _wraps(x: Array) -> bool:
    """Whether another integer's comparison with it may come out by a wrap: unsigned, and as wide as any."""
    return x.dtype.kind == "u" and x.dtype.itemsize >= jax.dtypes.canonicalize_dtype(np.int64).itemsize
