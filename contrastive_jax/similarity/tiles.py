"""What a tile is, and what the engine checks and measures of one before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PyTree


class Scores(NamedTuple):
    """What a tile says of r rows and c columns.

    logits: the score of each pair, float32 (or float64).
    mask: which pairs take part; None means all. A masked pair has no probability and no target.
    targets: how much each pair is wanted, not normalised; None means that there are none.
    denominator: which of the pairs that take part stand in the log-sum-exps; None means all. A
        decoupled loss leaves its positives out of them.
    """

    logits: Float[Array, "r c"]
    mask: Bool[Array, "r c"] | None = None
    targets: Float[Array, "r c"] | None = None
    denominator: Bool[Array, "r c"] | None = None


class Weighted(NamedTuple):
    """What a tile of `expectation` says: values, and the logits of the weights that they get."""

    logits: Float[Array, "r c"]
    values: Float[Array, "r c"]
    mask: Bool[Array, "r c"] | None = None


Tile = Callable[[Any, Any, Any], "Scores | Weighted | Float[Array, 'r c']"]


class Extra(NamedTuple):
    """Further columns of a reduction, of the same tree as `columns`; see `reductions`."""

    columns: PyTree
    sharded: bool = False


@dataclass(frozen=True)
class Dot:
    """A tile that sees its embeddings through their inner products alone: the engine's fast path.

    scores(dots [r, c], rows, columns, shared) -> Scores, elementwise in the pairs; `rows` and `columns`
    are the records without their embedding, which stands under `embedding`. dots are float32 (float64
    for float64 embeddings) whatever the embeddings' dtype.
    bound(shared): no logit is larger, where embeddings have at most unit length. With it one exponential
    a pair serves rows and columns; logits that break it, or that all lie far below it, cost a second
    sweep and nothing else. None: a running maximum.
    """

    scores: Callable[[Any, Any, Any, Any], Scores | Array]
    bound: Callable[[Any], Array] | None = None
    embedding: str = "embedding"

    def __call__(self, rows, columns, shared):
        (a, rows), (b, columns) = (self.apart(record) for record in (rows, columns))
        return self.scores(products(a, b), rows, columns, shared)

    def apart(self, record: dict[str, Array]) -> tuple[Float[Array, "n d"], dict[str, Array]]:
        """The embedding, and the rest of the record."""
        rest = dict(record)
        return rest.pop(self.embedding), rest


def products(a: Float[Array, "r d"], b: Float[Array, "c d"]) -> Float[Array, "r c"]:
    """<a_i, b_j>: narrow embeddings are multiplied as they are and added up in float32."""
    dtype = jnp.promote_types(jnp.float32, a.dtype)
    precision = jax.lax.Precision.HIGHEST if a.dtype == dtype else None
    return jax.lax.dot_general(
        a, b, (((1,), (1,)), ((), ())), precision=precision, preferred_element_type=dtype
    )


class Side(NamedTuple):
    """The rows or the columns as the engine carries them.

    Only floating leaves are differentiated; labels, masks and keys ride along. `index` is the
    position in the whole batch, and -1 marks padding, which repeats a real example so that no tile
    meets a value that no user gave it.
    """

    floating: list[Float[Array, "n ..."]]
    others: list[Array]
    index: Int[Array, " n"]


class Split(NamedTuple):
    """How a user's pytree comes apart into floating and other leaves, and together again."""

    structure: Any
    is_floating: tuple[bool, ...]

    @classmethod
    def of(cls, tree: PyTree) -> Split:
        leaves, structure = jax.tree.flatten(tree)
        return cls(structure, tuple(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves))

    def apart(self, tree: PyTree) -> tuple[list[Array], list[Array]]:
        leaves = jax.tree.leaves(tree)
        floating = [leaf for leaf, f in zip(leaves, self.is_floating) if f]
        return floating, [leaf for leaf, f in zip(leaves, self.is_floating) if not f]

    def place(self, key: str) -> int:
        """Where the floating leaf under `key` of a dictionary stands among the floating ones."""
        index = self.structure.unflatten(range(len(self.is_floating)))[key]
        return sum(self.is_floating[:index])

    def together(self, floating: list[Array], others: list[Array]) -> PyTree:
        floating, others = iter(floating), iter(others)
        return self.structure.unflatten(next(floating if f else others) for f in self.is_floating)


def normalise(scores: Scores | Weighted | Array) -> Scores | Weighted:
    """A bare array means logits alone."""
    return scores if isinstance(scores, (Scores, Weighted)) else Scores(scores)


def count(tree: PyTree, side: str) -> int:
    """The number of examples in `rows` or `columns`; ValueError where the leaves disagree."""
    sizes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = side + jax.tree_util.keystr(path)
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"{name} is a scalar; every leaf of `{side}` has the example axis first")
        sizes[name] = leaf.shape[0]
    if not sizes:
        raise ValueError(f"`{side}` has no arrays in it")
    if len(set(sizes.values())) > 1:
        raise ValueError(f"the leaves of `{side}` differ in their first axis: {sizes}")
    size = next(iter(sizes.values()))
    if size == 0:
        raise ValueError(f"`{side}` is empty; give at least one example")
    return size


def check(tile: Tile, rows: PyTree, columns: PyTree, shared: PyTree) -> Scores | Weighted:
    """Traces the tile on 5 rows and 7 columns; returns the dtypes and shapes of its scores.

    Raises ValueError where a field has another shape than [rows, columns], where the logits are not
    floating, or where the tile closes over a traced value: such a value would get no gradient.
    """
    if isinstance(tile, Dot):
        _check_embeddings(tile, rows, columns)
    closed, scores = trace(tile, rows, columns, shared, 5, 7)
    for constant in closed.consts:
        if isinstance(constant, jax.core.Tracer):
            raise ValueError(
                f"the tile closes over a traced value of type {constant.aval.str_short()}; "
                "pass it in `shared` (or in `rows` or `columns`), or its gradient would be lost"
            )
    for name, value in zip(scores._fields, scores):
        if value is not None and value.shape != (5, 7):
            raise ValueError(
                f"the tile's {name} for 5 rows and 7 columns have shape {value.shape}, not (5, 7)"
            )
    for name in ("logits", "values"):
        value = getattr(scores, name, None)
        if value is not None and not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"the tile's {name} are {value.dtype}, not floating")
    return scores


def _check_embeddings(tile: Dot, rows: PyTree, columns: PyTree) -> None:
    pair = []
    for name, record in (("rows", rows), ("columns", columns)):
        if not isinstance(record, dict) or tile.embedding not in record:
            raise ValueError(f"a Dot tile reads {name}[{tile.embedding!r}]; `{name}` has none")
        pair.append(record[tile.embedding])
    a, b = pair
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or a.dtype != b.dtype:
        raise ValueError(
            f"a Dot tile multiplies rows {a.dtype}{list(a.shape)} and columns {b.dtype}{list(b.shape)}: "
            "give [R, d] and [C, d] of one dtype"
        )


def trace(tile: Tile, rows: PyTree, columns: PyTree, shared: PyTree, r: int, c: int):
    """The jaxpr of the tile for r rows and c columns, and the shapes that it returns."""

    def resized(tree, size):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype), tree)

    whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), shared)
    return jax.make_jaxpr(lambda *a: normalise(tile(*a)), return_shape=True)(
        resized(rows, r), resized(columns, c), whole
    )
