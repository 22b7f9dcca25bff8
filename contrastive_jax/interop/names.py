"""Tables of names: which of our parameters are which of another library's tensors.

A table is read in both directions, so what is imported and what is exported cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, PyTree

    from contrastive_jax.interop.reading import Weights

LAYER = "{layer}"
_SHOWN = 8


class Transform(NamedTuple):
    """A bijection between their tensors and ours.

    load: (their arrays, in the row's order) -> a tuple of ours; save: the way back.
    """

    load: Callable[..., tuple[np.ndarray, ...]]
    save: Callable[..., tuple[np.ndarray, ...]]


def _same(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return arrays


SAME = Transform(_same, _same)


class Row(NamedTuple):
    """ours: paths of parameters, joined by "/"; theirs: names of tensors.

    Where a name of theirs has `{layer}`, ours have a leading axis of layers, and the transform is of one.
    The layers before `first` have no such tensors; ours are `fill` there.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    transform: Transform = SAME
    first: int = 0
    fill: float = 0.0


class Table(NamedTuple):
    """rows: of one encoder, or one head. ignored: patterns (fnmatch) of names in the file that are not
    of it: another part's, or nothing that an embedding depends on. folder: where the tensors are, if not
    with the weights that the table was made for."""

    rows: tuple[Row, ...]
    ignored: tuple[str, ...] = ()
    folder: Path | None = None


def load(table: Table, weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Our parameters {path: array} from their tensors.

    shapes: {path: shape} of what must come out.

    Raises:
        InputError: one that lists tensors that are missing, left over, or of another shape.
    """
    unknown = sorted(set(shapes) ^ {path for row in table.rows for path in row.ours})
    if unknown:
        raise InputError(f"{weights.folder}: the encoder and these weights differ by {some(unknown)}")
    needed = {name: shape for row in table.rows for name, shape in _their_shapes(row, shapes).items()}
    extra = (name for name in weights.names if name not in needed)
    extra = [name for name in extra if not any(fnmatchcase(name, pattern) for pattern in table.ignored)]
    missing = [name for name in needed if name not in weights]
    other = [
        f"{name} {list(weights.shape(name))} (wanted {list(shape)})"
        for name, shape in needed.items()
        if name in weights and weights.shape(name) != shape
    ]
    found = (("missing", missing), ("left over", extra), ("of another shape", other))
    words = "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in found if names)
    if words:
        raise InputError(f"{weights.folder}: weights of another architecture: {words}")
    flat: dict[str, np.ndarray] = {}
    for row in table.rows:
        depth = _depth(row, shapes)
        layers = [
            row.transform.load(*(weights[name.replace(LAYER, str(i))] for name in row.theirs))
            for i in range(row.first, depth or 1)
        ]
        for path, arrays in zip(row.ours, zip(*layers) if layers else ((),) * len(row.ours)):
            without = [np.full(shapes[path][1:], row.fill, np.float32)] * row.first
            flat[path] = np.stack(without + list(arrays)) if depth else arrays[0]
    return flat


def save(rows: Iterable[Row], flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Their tensors {name: array} from our parameters {path: array}."""
    tensors: dict[str, np.ndarray] = {}
    for row in rows:
        ours = [np.asarray(flat[path], np.float32) for path in row.ours]
        if any(LAYER in name for name in row.theirs):
            for i in range(row.first, len(ours[0])):
                names = [name.replace(LAYER, str(i)) for name in row.theirs]
                tensors.update(zip(names, row.transform.save(*(array[i] for array in ours))))
        else:
            tensors.update(zip(row.theirs, row.transform.save(*ours)))
    return {name: np.asarray(array, order="C") for name, array in tensors.items()}


def flatten(tree: PyTree, where: str = "") -> dict[str, Any]:
    """{path: leaf} of nested dictionaries."""
    if not isinstance(tree, Mapping):
        return {where: tree}
    joined = ((f"{where}/{key}" if where else key, value) for key, value in tree.items())
    return {path: leaf for key, value in joined for path, leaf in flatten(value, key).items()}


def unflatten(flat: Mapping[str, Float[np.ndarray, "..."]]) -> PyTree:
    """The nested dictionaries that `flatten` took apart."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = leaf
    return tree


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _depth(row: Row, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    return shapes[row.ours[0]][0] if any(LAYER in name for name in row.theirs) else None


def _their_shapes(row: Row, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple]:
    depth = _depth(row, shapes)
    zeros = [np.broadcast_to(np.float32(0), shapes[path][depth is not None :]) for path in row.ours]
    theirs = [array.shape for array in row.transform.save(*zeros)]
    if depth is None:
        return dict(zip(row.theirs, theirs))
    layers = range(row.first, depth)
    return {name.replace(LAYER, str(i)): shape for i in layers for name, shape in zip(row.theirs, theirs)}
