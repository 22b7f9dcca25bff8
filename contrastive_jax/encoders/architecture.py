"""The dimensions of a transformer, by the field's size names."""

from __future__ import annotations

from dataclasses import dataclass

from contrastive_jax.errors import InputError

POOLINGS = ("cls", "mean", "map", "last")
DTYPES = ("float32", "bfloat16")
ACTIVATIONS = ("gelu_tanh", "gelu", "quick_gelu", "swiglu")


@dataclass(frozen=True)
class Dimensions:
    """Width of the residual stream, number of blocks, attention heads a block, width of the MLP."""

    width: int
    depth: int
    heads: int
    mlp: int


SIZES: dict[str, Dimensions] = {
    "micro": Dimensions(64, 3, 4, 256),
    "Ti": Dimensions(192, 12, 3, 768),
    "S": Dimensions(384, 12, 6, 1536),
    "B": Dimensions(768, 12, 12, 3072),
    "L": Dimensions(1024, 24, 16, 4096),
}


@dataclass(frozen=True)
class Architecture:
    """What a stack of pre-LN blocks needs to know; see `TransformerEncoder` for the fields."""

    dimensions: Dimensions
    pooling: str
    causal: bool
    dropout: float
    drop_path: float
    dtype: str
    remat: bool
    unroll: int
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    first_norm: bool = False
    layer_scale: float | None = None
    registers: int = 0


def dimensions(
    size: str, width: int | None, depth: int | None, heads: int | None, mlp: int | None
) -> Dimensions:
    """The table's dimensions with the given ones in their place; an MLP is 4 widths unless told."""
    if size not in SIZES:
        raise InputError(f"size: '{size}' is not a size; choose one of {', '.join(SIZES)}")
    named = SIZES[size]
    chosen = Dimensions(
        width=named.width if width is None else width,
        depth=named.depth if depth is None else depth,
        heads=named.heads if heads is None else heads,
        mlp=mlp if mlp is not None else named.mlp if width is None else 4 * width,
    )
    for key, value in vars(chosen).items():
        at_least(key, value, 1)
    if chosen.width % chosen.heads:
        raise InputError(
            f"heads: {chosen.heads} does not divide width {chosen.width}; choose another of the two"
        )
    return chosen


def at_least(key: str, value: int, least: int) -> None:
    """Raise an InputError if `value` is below `least`."""
    if value < least:
        raise InputError(f"{key}: {value} is not possible; it must be at least {least}")


def one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    """Raise an InputError unless `value` is known."""
    if value not in known:
        raise InputError(f"{key}: '{value}' is not one of {', '.join(known)}")


def rate(key: str, value: float) -> None:
    """Raise an InputError unless `value` is a probability below 1."""
    if not 0 <= value < 1:
        raise InputError(f"{key}: {value} is not a rate; choose one from 0 up to, but not including, 1")
