"""The parts that branches name: whether they are there, and what a branch's stages are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.configuration import nearest
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from contrastive_jax.branches.graph import Branch, Graph
    from contrastive_jax.branches.teachers import Teacher

ENCODER = "encoder"
"""The stage before any head."""


def named(graph: Graph, name: str) -> str:
    """The branch of `branch` or `branch.stage`; InputError for a name that is neither."""
    branch, dot, stage = name.partition(".")
    if branch not in graph.branches:
        raise InputError(f"branch {branch!r} is unknown; {nearest(branch, graph.branches)}")
    stages = (ENCODER, *graph.branches[branch].heads)
    if dot and stage not in stages:
        raise InputError(f"branch {branch!r} has no stage {stage!r}; {nearest(stage, stages)}")
    return branch


def heads_up_to(branch: Branch, stage: str | None, where: str = "stage") -> tuple[str, ...]:
    """The heads of a branch up to a stage, all of them for None; InputError for a stage that it has not."""
    if stage is None:
        return branch.heads
    stages = (ENCODER, *branch.heads)
    if stage not in stages:
        raise InputError(f"{where}={stage}: its branch has no such stage; {nearest(stage, stages)}")
    return branch.heads[: stages.index(stage)]


@contextmanager
def naming(where: str) -> Iterator[None]:
    """An InputError inside names the key of the config, too."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def encoded_width(encoder: Any, example: jax.ShapeDtypeStruct) -> int:
    """The size of an encoder's embedding, from shapes alone."""

    def run(example):
        return encoder.apply(
            encoder.init(jax.random.key(0), example), example, train=False, key=None
        ).embedding

    return jax.eval_shape(run, example).shape[-1]


def head_width(head: Any, example: jax.ShapeDtypeStruct) -> int:
    """The size of what a head makes of the example, from shapes alone."""

    def run(example):
        params, statistics = head.init(jax.random.key(0), example), head.statistics(example)
        return head.apply(params, example, train=False, key=None, statistics=statistics)[0]

    return jax.eval_shape(run, example).shape[-1]


def vector(width: int) -> jax.ShapeDtypeStruct:
    """What a head is given, a batch of one."""
    return jax.ShapeDtypeStruct((1, width), jnp.float32)


def resolved(branches: Mapping[str, Branch], teachers: Mapping[str, Teacher]) -> dict[str, Branch]:
    """The branches, those of a teacher with the encoder and the heads that it copies.

    Raises InputError, naming the key, for a teacher or a teacher's branch that is not there.
    """
    for name, teacher in teachers.items():
        where, of = f"config.teachers.{name}", branches.get(teacher.branch)
        if of is None:
            raise InputError(
                f"{where}.branch: {teacher.branch!r} is unknown; {nearest(teacher.branch, branches)}"
            )
        if of.teacher is not None:
            raise InputError(
                f"{where}.branch: {teacher.branch!r} is a teacher's itself; name a trained branch"
            )
        heads_up_to(of, teacher.stage, f"{where}.stage")
    found = {name: _resolved(name, branch, branches, teachers) for name, branch in branches.items()}
    for name in teachers:
        if not any(branch.teacher == name for branch in branches.values()):
            raise InputError(
                f"config.teachers.{name}: no branch has it as its teacher; remove it or name it in a branch"
            )
    return found


def _resolved(
    name: str, branch: Branch, branches: Mapping[str, Branch], teachers: Mapping[str, Teacher]
) -> Branch:
    where = f"config.branches.{name}"
    if branch.teacher is None:
        if branch.encoder is None:
            raise InputError(f"{where}.encoder is missing: name an encoder, or a teacher in its place")
        return branch
    if branch.teacher not in teachers:
        raise InputError(
            f"{where}.teacher: {branch.teacher!r} is unknown; {nearest(branch.teacher, teachers)}"
        )
    if branch.encoder is not None or branch.heads:
        raise InputError(
            f"{where}: teacher={branch.teacher} brings its own encoder and heads; leave out encoder and heads"
        )
    teacher = teachers[branch.teacher]
    copied = branches[teacher.branch]
    return dataclasses.replace(branch, encoder=copied.encoder, heads=heads_up_to(copied, teacher.stage))


def check_parts(graph: Graph) -> None:
    """Raises InputError, naming the key, for a part that is not there, is not used or does not fit."""
    for name, branch in graph.branches.items():
        for key, part, known in (
            ("view", branch.view, graph.views),
            ("encoder", branch.encoder, graph.encoders),
            *(("heads", head, graph.heads) for head in branch.heads),
        ):
            _known(f"config.branches.{name}.{key}", part, known)
        _check_mix(f"config.branches.{name}.mix", branch, graph)
        own = [getattr(graph.heads[head], "train_only", False) for head in branch.heads]
        if own != sorted(own):
            late = branch.heads[own.index(True)]
            raise InputError(
                f"config.heads.{late}.train_only=True: only the last heads of a branch can be left out"
            )
    _check_used("encoders", graph.encoders, (b.encoder for b in graph.branches.values()))
    _check_used("heads", graph.heads, (h for b in graph.branches.values() for h in b.heads))
    for name, queue in graph.memory.items():
        if name in graph.branches:
            raise InputError(f"config.memory.{name}: a branch is called so too; rename one of them")
        with naming(f"config.memory.{name}.branch"):
            named(graph, queue.branch)


def _check_mix(where: str, branch: Branch, graph: Graph) -> None:
    if branch.mix is None:
        return
    _known(where, branch.mix, graph.views)
    one, other = graph.views[branch.view], graph.views[branch.mix]
    counts = [graph.counts.get(view) for view in (branch.view, branch.mix)]
    if (one.shape, one.dtype) != (other.shape, other.dtype) or counts[0] != counts[1]:
        raise InputError(
            f"{where}={branch.mix}: it has not the shape of {branch.view}; name two views of one kind"
        )
    if not (one.dtype == jnp.uint8 or jnp.issubdtype(one.dtype, jnp.floating)):
        raise InputError(f"{where}={branch.mix}: only pictures can be mixed, and this is of {one.dtype}")


def _known(where: str, part: str, known: Mapping[str, Any]) -> None:
    if part not in known:
        raise InputError(f"{where}: {part!r} is unknown; {nearest(part, known)}")


def _check_used(kind: str, parts: Mapping[str, Any], used: Iterable[str]) -> None:
    used = set(used)
    for name in parts:
        if name not in used:
            raise InputError(f"config.{kind}.{name}: no branch uses it; remove it or name it in a branch")
