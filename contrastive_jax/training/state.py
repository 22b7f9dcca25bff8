"""Everything that training changes, as one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Array, Int, Key, PyTree


class TrainState(NamedTuple):
    """A plain pytree; `train_step` takes one and returns the next.

    step: updates done. params: {"encoders", "heads", "losses"}, each {name: arrays}.
    teachers, statistics, memory: what methods keep beside the parameters, {name: arrays}.
    key: the run's key; the keys of a step are folded from it, so it never changes.
    """

    step: Int[Array, ""]
    params: PyTree
    opt_state: Any
    teachers: PyTree
    statistics: PyTree
    memory: PyTree
    key: Key[Array, ""]
