"""Branches: encoders, heads and views wired into named embeddings.

A branch is a name for "this view, through this encoder, through these heads". CLIP has two branches with
an encoder each; SimCLR two branches that share one; in MoCo the second one is a teacher's. Parameters are
{"encoders": {name: ...}, "heads": {name: ...}}, so whatever shares a name shares its parameters.

What computes with them takes a `model`: the parameters, and beside them what methods keep, where there is
any: {"teachers": {name: {"encoders", "heads"}}, "statistics": {name: ...}, "memory": {name: ...}}.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.branches.keys import each_its_own, fold_name
from contrastive_jax.branches.memory import Queue
from contrastive_jax.branches.parts import (
    ENCODER,
    check_parts,
    encoded_width,
    head_width,
    heads_up_to,
    named,
    naming,
    resolved,
    vector,
)
from contrastive_jax.branches.teachers import Teacher

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key, PyTree


@dataclass(frozen=True)
class Branch:
    """One named embedding.

    view: the name of the view that it reads; encoder: the encoder's name; heads: names of stages on the
    embeddings of the whole batch, in order; normalize: to unit length at the end.
    teacher: a teacher, in place of encoder and heads: they are its copies then, without a gradient.
    mix: a second view of pictures. The branch sees share x view + (1 - share) x the partner's second view,
    with one share a step, drawn evenly, and partners that are a permutation of the batch; losses find them
    as the fields `BRANCH.share` and `BRANCH.partner`.
    """

    view: str
    encoder: str | None = None
    heads: tuple[str, ...] = ()
    normalize: bool = True
    teacher: str | None = None
    mix: str | None = None


@dataclass(frozen=True)
class Graph:
    """All branches of a run with the parts that they name.

    `branches` afterwards name the encoder and the heads of their teacher, if they have one.
    """

    branches: Mapping[str, Branch]
    encoders: Mapping[str, Any]
    heads: Mapping[str, Any]
    views: Mapping[str, jax.ShapeDtypeStruct]  # the shape of one example of each view
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    memory: Mapping[str, Queue] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)  # of views that give several examples a record

    def __post_init__(self):
        object.__setattr__(self, "branches", resolved(self.branches, self.teachers))
        check_parts(self)

    def init(self, key: Key[Array, ""]) -> PyTree:
        """New parameters {"encoders", "heads"}; each part's depend on the key and its own name only."""

        def part(kind, name, module, example):
            return module.init(fold_name(key, f"{kind}/{name}"), example)

        return self._parts(part)

    def logical_axes(self) -> PyTree:
        """The tree of `init` with a tuple of logical axis names for each array."""
        return self._parts(lambda kind, name, module, example: module.logical_axes(example))

    def beside(self, key: Key[Array, ""], params: PyTree) -> dict[str, PyTree]:
        """What stands beside new parameters: teachers that are copies of them, statistics, memories."""
        memory = {
            name: queue.init(fold_name(key, f"memory/{name}"), self.width(queue.branch))
            for name, queue in self.memory.items()
        }
        return {"teachers": self.copies(params), "statistics": self._statistics(), "memory": memory}

    def beside_axes(self, axes: PyTree) -> dict[str, PyTree]:
        """The tree of `beside` with logical axis names; axes: those of the parameters."""
        everywhere = jax.tree.map(lambda x: (None,) * len(x.shape), jax.eval_shape(self._statistics))
        memory = {name: queue.logical_axes() for name, queue in self.memory.items()}
        return {"teachers": self.copies(axes), "statistics": everywhere, "memory": memory}

    def copies(self, params: PyTree) -> dict[str, PyTree]:
        """The parts of the parameters, or of a tree like theirs, that each teacher has copies of."""
        found = {}
        for name, teacher in self.teachers.items():
            branch = self.branches[teacher.branch]
            heads = {head: params["heads"][head] for head in heads_up_to(branch, teacher.stage)}
            found[name] = {"encoders": {branch.encoder: params["encoders"][branch.encoder]}, "heads": heads}
        return found

    def follow(self, teachers: PyTree, params: PyTree, step: Int[Array, ""], steps: int) -> dict[str, PyTree]:
        """The teachers after the update of a step, of `steps` in all."""
        originals = self.copies(params)
        return {n: t.follow(teachers[n], originals[n], step, steps) for n, t in self.teachers.items()}

    def encode(self, model: PyTree, name: str, view: Array, *, train: bool, key) -> Float[Array, "b *K H"]:
        """What the branch's encoder makes of each example by itself; fit for microbatches.

        view: [b, ...], or [b, K, ...] of K examples a record; key: an array of keys [b], one a record, or
        None when `train` is false.
        """
        branch = self.branches[name]
        parts, train = self._weights(model, branch), train and self._trains(branch)
        single = self.views[branch.view].shape
        grouped = view.ndim == len(single) + 2
        if grouped:
            key = None if key is None else each_its_own(key, view.shape[1]).reshape(-1)
            records, view = view.shape[:2], view.reshape(-1, *single)
        encoder = self.encoders[branch.encoder]
        z = encoder.apply(
            parts["encoders"][branch.encoder], view, train=train, key=key if train else None
        ).embedding
        z = z.reshape(*records, -1) if grouped else z
        return jax.lax.stop_gradient(z) if branch.teacher else z

    def stages(
        self, model: PyTree, name: str, encoded: Float[Array, "B *K H"], *, train: bool, key
    ) -> tuple[dict[str, Float[Array, "B *K d"]], dict[str, PyTree]]:
        """The embedding of a branch and of each of its stages, by name, and the statistics that changed.

        {"a", "a.encoder", "a.HEAD"...}: heads on the whole batch, each stage of unit length if the branch is.
        key: of the step, None when `train` is false; then the heads that are for training alone are no part
        of the branch itself.
        """
        branch = self.branches[name]
        parts, active = self._weights(model, branch), train and self._trains(branch)
        z, shape = encoded.reshape(-1, encoded.shape[-1]), encoded.shape[:-1]
        keys = self.keys(key, name, jnp.arange(len(z))) if active else None
        found, changed, final = {f"{name}.encoder": z}, {}, z
        for head in branch.heads:
            place = self._place(branch, head)
            z, statistics = self.heads[head].apply(
                parts["heads"][head],
                z,
                train=active,
                key=keys,
                statistics=model.get("statistics", {}).get(place, {}),
                turn=self._turn(name, head, key),
            )
            found[f"{name}.{head}"] = z
            if train or not self.heads[head].train_only:
                final = z
            if active and statistics:
                changed[place] = jax.lax.stop_gradient(statistics)
        found[name] = final

        def finished(z):
            z = unit_length(z) if branch.normalize else z
            z = z.reshape(*shape, z.shape[-1])
            return jax.lax.stop_gradient(z) if branch.teacher else z

        return {stage: finished(z) for stage, z in found.items()}, changed

    def finish(self, model: PyTree, name: str, encoded: Float[Array, "B *K H"], *, train: bool, key):
        """The embedding of a branch, or of `branch.stage`, [B, d] or [B, K, d]; see `stages`."""
        return self.stages(model, named(self, name), encoded, train=train, key=key)[0][name]

    def read(self, model: PyTree) -> dict[str, Any]:
        """What losses see of each memory."""
        return {name: queue.read(model["memory"][name]) for name, queue in self.memory.items()}

    def write(self, model: PyTree, embedded: Mapping[str, Array], fields: Mapping[str, Array]) -> PyTree:
        """The memories after a step of these embeddings."""
        return {
            name: queue.write(
                model["memory"][name], embedded[queue.branch], fields[queue.labels] if queue.labels else None
            )
            for name, queue in self.memory.items()
        }

    def mixing(self, key: Key[Array, ""], name: str, size: int) -> tuple[Int[Array, " B"], Float[Array, ""]]:
        """(partner, share) of a branch that mixes, in the step of this key."""
        own = fold_name(key, f"mix/{name}")
        return jax.random.permutation(own, size), jax.random.uniform(jax.random.fold_in(own, 1))

    def keys(self, key: Key[Array, ""], name: str, positions) -> Key[Array, " b"]:
        """A key an example from its position in the global batch; no two branches share one."""
        return jax.vmap(lambda i: jax.random.fold_in(fold_name(key, name), i))(positions)

    def examples(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What each encoder is given, a batch of one, by the encoder's name: the view of its first branch."""
        given: dict[str, jax.ShapeDtypeStruct] = {}
        for branch in self.branches.values():
            view = self.views[branch.view]
            given.setdefault(branch.encoder, jax.ShapeDtypeStruct((1, *view.shape), view.dtype))
        return given

    def inputs(self, size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """The views of `size` records, as a batch of training has them."""
        counts = {name: (self.counts[name],) if self.counts.get(name) else () for name in self.views}
        return {
            name: jax.ShapeDtypeStruct((size, *counts[name], *view.shape), view.dtype)
            for name, view in self.views.items()
        }

    def width(self, name: str, train: bool = True) -> int:
        """The size of the embeddings of a branch or of `branch.stage`, from shapes alone.

        train: with the heads that are for training alone.
        """
        branch, _, stage = name.partition(".")
        heads = self.branches[named(self, name)].heads
        last = (ENCODER, *(head for head in heads if train or not self.heads[head].train_only))[-1]
        return self._widths[f"{branch}.{stage or last}"]

    @functools.cached_property
    def _widths(self) -> dict[str, int]:
        """The size of each stage of each branch; encoders are slow to trace, so it is done once."""
        found, encoded = {}, {}
        for name, branch in self.branches.items():
            view = self.views[branch.view]
            given = branch.encoder, view.shape, view.dtype
            if given not in encoded:
                example = jax.ShapeDtypeStruct((1, *view.shape), view.dtype)
                with naming(f"config.encoders.{branch.encoder}"):
                    encoded[given] = encoded_width(self.encoders[branch.encoder], example)
            found[f"{name}.{ENCODER}"] = width = encoded[given]
            for head in branch.heads:
                found[f"{name}.{head}"] = width = head_width(self.heads[head], vector(width))
        return found

    def _weights(self, model: PyTree, branch: Branch) -> PyTree:
        return model["teachers"][branch.teacher] if branch.teacher else model

    def _place(self, branch: Branch, head: str) -> str:
        """Where a head's statistics stand; a teacher that trains sees other embeddings, so it has its own."""
        return f"{branch.teacher}.{head}" if branch.teacher and self._trains(branch) else head

    def _trains(self, branch: Branch) -> bool:
        return branch.teacher is None or self.teachers[branch.teacher].train

    def _turn(self, name: str, head: str, key) -> Bool[Array, ""] | bool:
        """Whether it is this branch's turn, of those that share a head, drawn anew in each step."""
        teacher = self.branches[name].teacher
        sharing = [n for n, b in self.branches.items() if head in b.heads and b.teacher == teacher]
        if key is None or len(sharing) < 2:
            return True
        first = jax.random.bernoulli(fold_name(key, f"turn/{head}"))
        return first == (sharing.index(name) % 2 == 0)

    def _statistics(self) -> PyTree:
        """The first running statistics of the heads that have any, of a teacher's apart from the branch's."""
        found = {}
        for name, branch in self.branches.items():
            for head, example in self._heads_of(name):
                if statistics := self.heads[head].statistics(example):
                    found[self._place(branch, head)] = statistics
        return found

    def _parts(self, make) -> PyTree:
        encoders, heads = {}, {}
        for encoder, example in self.examples().items():
            with naming(f"config.encoders.{encoder}"):
                encoders[encoder] = make("encoders", encoder, self.encoders[encoder], example)
        for branch in self.branches:
            for head, example in self._heads_of(branch):
                if head not in heads:
                    heads[head] = make("heads", head, self.heads[head], example)
        return {"encoders": encoders, "heads": heads}

    def _heads_of(self, name: str) -> list[tuple[str, jax.ShapeDtypeStruct]]:
        """Each head of a branch with what it is given."""
        heads = self.branches[name].heads
        return [
            (head, vector(self.width(f"{name}.{before}"))) for before, head in zip((ENCODER, *heads), heads)
        ]


def unit_length(z: Float[Array, "B d"]) -> Float[Array, "B d"]:
    """z / |z|, with a finite gradient at zero."""
    return z * jax.lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=-1, keepdims=True), 1e-12))
