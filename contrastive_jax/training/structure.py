"""The structure of a state: its arrays by name, their shapes and types, and whether two of them agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax

from contrastive_jax.configuration import nearest
from contrastive_jax.errors import InputError


def is_key(leaf: Any) -> bool:
    """Whether `leaf` is an array of typed PRNG keys (or stands for one)."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def path_name(path: Any) -> str:
    """The name of a leaf from the path that JAX has for it: its keys, joined by "/"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves by their path, `params/encoders/image/kernel`; None and empty dicts have none.

    Raises:
      ValueError: two leaves have the same name (a "/" inside a key).
    """
    leaves, _ = jax.tree.flatten_with_path(tree, is_leaf)
    names = [path_name(path) for path, _ in leaves]
    if len(set(names)) < len(names):
        raise ValueError(f"two leaves are called {next(name for name in names if names.count(name) > 1)!r}")
    return {name: leaf for name, (_, leaf) in zip(names, leaves)}


def part_of(name: str) -> str:
    """The encoder, head or loss that a parameter belongs to: "encoders/text" of encoders/text/norm/scale."""
    return "/".join(name.split("/")[:2])


def nearest_pattern(pattern: str, names: Iterable[str]) -> str:
    """What to say of a pattern that none of some parameters' names fits."""
    names = list(names)
    return nearest(pattern, {*names, *(f"{part_of(name)}/*" for name in names)})


def describe(tree: Any) -> dict[str, dict[str, Any]]:
    """Shape and type of every leaf by its name, as JSON: `{"step": {"shape": [], "dtype": "int32"}}`."""
    return {
        name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for name, leaf in named_leaves(tree).items()
    }


def check_fit(where: str, stored: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> None:
    """Compares two descriptions.

    Raises:
      InputError: they differ; the first three differing leaves are named.
    """
    differing = [name for name in wanted | stored if stored.get(name) != wanted.get(name)]
    if differing:
        shown = [
            f"{name} is {_show(stored, name)} there, {_show(wanted, name)} here" for name in differing[:3]
        ]
        more = [f"and {len(differing) - 3} more"] if len(differing) > 3 else []
        raise InputError(
            f"{where} is of another model: {'; '.join(shown + more)}: use the config that made it"
        )


def stored_form(leaf: Any) -> jax.ShapeDtypeStruct:
    """What is stored for a leaf: its own shape and type, or those of the integers that a key is made of."""
    data = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)


def original_form(array: jax.Array, leaf: Any) -> jax.Array:
    """The other way round: `array`, wrapped as keys where `leaf` is of keys."""
    if not is_key(leaf):
        return array
    implementation: list[Any] = []  # `key_impl` wants an array or a tracer, not its shape
    jax.eval_shape(lambda key: implementation.append(jax.random.key_impl(key)), leaf)
    return jax.random.wrap_key_data(array, impl=implementation[0])


def _show(described: dict[str, dict[str, Any]], name: str) -> str:
    if name not in described:
        return "absent"
    return f"{described[name]['dtype']}{described[name]['shape']}"
