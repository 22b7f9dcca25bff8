"""Which parameters a step trains: all but those frozen by name, and those that adapters stand for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import jax

from contrastive_jax.errors import InputError
from contrastive_jax.training import lora
from contrastive_jax.training.structure import named_leaves, nearest_pattern, part_of, path_name

if TYPE_CHECKING:
    from jaxtyping import PyTree

log = logging.getLogger(__name__)

BESIDE = ("teachers", "statistics", "memory")
"""What a model has beside its parameters; see `branches`."""


@dataclass(frozen=True)
class Trainable:
    """frozen: patterns of parameters' names; alphas: of the adapted matrices, by their names.

    What is not trained is no argument of the derivative: it has no gradient, no moments, no decay, and a
    backward pass stops before it.
    """

    frozen: tuple[str, ...] = ()
    alphas: Mapping[str, float] = field(default_factory=dict)

    def trains(self, name: str) -> bool:
        """Whether the parameter of this name is trained; the two parts of an adapter always are, what stands
        beside the parameters in a model never is."""
        kind = name.split("/")[0]
        if kind in ("lora", *BESIDE):
            return kind == "lora"
        return name not in self.alphas and not any(fnmatchcase(name, pattern) for pattern in self.frozen)

    def split(self, tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> tuple[PyTree, PyTree]:
        """(what is trained, the rest) of a tree like that of the parameters, or of whole entries of it.

        Both have None at the places of the other one; `join` puts them together.
        """

        def part(trained: bool) -> PyTree:
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: leaf if self.trains(path_name(path)) == trained else None,
                tree,
                is_leaf=is_leaf,
            )

        return part(True), part(False)

    def encoders(self, params: PyTree) -> set[str]:
        """The names of the encoders in which something is trained; the others need no backward pass.

        params: the parameters, or a tree like theirs with anything, axis names say, in place of arrays.
        """
        leaves = named_leaves({"encoders": params["encoders"]}, lambda x: isinstance(x, tuple))
        moving = {name for name in leaves if self.trains(name)}
        return {name.split("/")[1] for name in moving | set(self.alphas)}

    def merged(self, params: PyTree) -> PyTree:
        """The parameters of the model itself, adapters merged; see `lora.merged`."""
        return lora.merged(params, self.alphas)

    def check(self, names: Iterable[str]) -> None:
        """Raises InputError for a pattern that fits none of the names, or if nothing is trained."""
        names = [name for name in names if part_of(name).split("/")[0] != "lora"]
        for pattern in self.frozen:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise InputError(
                    f"config.frozen: no parameter is called {pattern!r}; {nearest_pattern(pattern, names)}"
                )
        if not self.alphas and not any(map(self.trains, names)):
            raise InputError(f"config.frozen={self.frozen} freezes every parameter: leave some to train")

    def report(self, params: PyTree) -> list[str]:
        """Of each encoder, head and loss in which something is frozen, how much: `encoders/image 12 of 130`.

        params: the parameters, or their structure.
        """
        every, still = _counted(params), _counted(self.split(params)[1])
        return [f"{part} {still[part]:,} of {every[part]:,}" for part in every if part in still]

    def tell(self, params: PyTree) -> None:
        """Says in the log what is frozen, and how much adapters have to train."""
        if frozen := self.report(params):
            log.info("frozen: %s", ", ".join(frozen))
        if self.alphas:
            log.info("lora: %s parameters adapt %d matrices", f"{size(params['lora']):,}", len(self.alphas))


EVERYTHING = Trainable()


def join(trained: PyTree, rest: PyTree) -> PyTree:
    """The tree that `Trainable.split` cut in two."""
    return jax.tree.map(lambda a, b: b if a is None else a, trained, rest, is_leaf=lambda x: x is None)


def size(tree: PyTree) -> int:
    """How many numbers the arrays of a tree hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _counted(params: PyTree) -> dict[str, int]:
    """Parameters by part, in the tree's order, adapters apart from all."""
    counts: dict[str, int] = {}
    for name, leaf in named_leaves({k: v for k, v in params.items() if k != "lora"}).items():
        counts[part_of(name)] = counts.get(part_of(name), 0) + leaf.size
    return counts
