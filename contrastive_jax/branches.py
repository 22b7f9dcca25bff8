"""Branches: encoders, heads and views wired into named embeddings.

A branch is a name for "this view, through this encoder, through these heads". CLIP has two branches with
an encoder each; SimCLR two branches that share one. Parameters are {"encoders": {name: ...}, "heads":
{name: ...}}, so whatever shares a name shares its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from contrastive_jax.configuration import nearest
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key, PyTree


@dataclass(frozen=True)
class Branch:
    """One named embedding.

    view: the name of the view that it reads; encoder: the encoder's name; heads: names of stages on the
    embeddings of the whole batch, in order; normalize: to unit length at the end.
    """

    view: str
    encoder: str
    heads: tuple[str, ...] = ()
    normalize: bool = True


@dataclass(frozen=True)
class Graph:
    """All branches of a run with the parts that they name."""

    branches: Mapping[str, Branch]
    encoders: Mapping[str, Any]
    heads: Mapping[str, Any]
    views: Mapping[str, jax.ShapeDtypeStruct]  # the shape of one example of each view

    def __post_init__(self):
        for name, branch in self.branches.items():
            for key, part, known in (
                ("view", branch.view, self.views),
                ("encoder", branch.encoder, self.encoders),
                *(("heads", head, self.heads) for head in branch.heads),
            ):
                if part not in known:
                    raise InputError(
                        f"config.branches.{name}.{key}: {part!r} is unknown; {nearest(part, known)}"
                    )
        for kind, used in (
            ("encoders", {b.encoder for b in self.branches.values()}),
            ("heads", {h for b in self.branches.values() for h in b.heads}),
        ):
            for name in getattr(self, kind):
                if name not in used:
                    raise InputError(
                        f"config.{kind}.{name}: no branch uses it; remove it or name it in a branch"
                    )

    def init(self, key: Key[Array, ""]) -> PyTree:
        """New parameters {"encoders", "heads"}; each part's depend on the key and its own name only."""

        def part(kind, name, module, example):
            return module.init(_fold_name(key, f"{kind}/{name}"), example)

        return self._parts(part)

    def logical_axes(self) -> PyTree:
        """The tree of `init` with a tuple of logical axis names for each array."""
        return self._parts(lambda kind, name, module, example: module.logical_axes(example))

    def encode(self, params: PyTree, name: str, view: Array, *, train: bool, key) -> Float[Array, "b H"]:
        """What the branch's encoder makes of each example by itself; fit for microbatches.

        view: [b, ...]; key: an array of keys [b], one an example, or None when `train` is false.
        """
        encoder = self.branches[name].encoder
        return self.encoders[encoder].apply(params["encoders"][encoder], view, train=train, key=key).embedding

    def finish(
        self, params: PyTree, name: str, encoded: Float[Array, "B H"], *, train: bool, key
    ) -> Float[Array, "B d"]:
        """The branch's embedding: its heads on the whole batch, then unit length if it is normalized."""
        branch = self.branches[name]
        for head in branch.heads:
            encoded, _ = self.heads[head].apply(params["heads"][head], encoded, train=train, key=key)
        return unit_length(encoded) if branch.normalize else encoded

    def keys(self, key: Key[Array, ""], name: str, positions) -> Key[Array, " b"]:
        """A key an example from its position in the global batch; no two branches share one."""
        return jax.vmap(lambda i: jax.random.fold_in(_fold_name(key, name), i))(positions)

    def examples(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What each encoder is given, a batch of one, by the encoder's name: the view of its first branch."""
        given: dict[str, jax.ShapeDtypeStruct] = {}
        for branch in self.branches.values():
            view = self.views[branch.view]
            given.setdefault(branch.encoder, jax.ShapeDtypeStruct((1, *view.shape), view.dtype))
        return given

    def _parts(self, make) -> PyTree:
        encoders, heads = {}, {}
        for branch in self.branches.values():
            encoder = self.encoders[branch.encoder]
            example = jax.ShapeDtypeStruct((1, *self.views[branch.view].shape), self.views[branch.view].dtype)
            try:
                if branch.encoder not in encoders:
                    encoders[branch.encoder] = make("encoders", branch.encoder, encoder, example)
                width = encoded_width(encoder, example)
            except InputError as error:
                raise InputError(f"config.encoders.{branch.encoder}: {error}") from error
            for head_name in branch.heads:
                head, example = self.heads[head_name], jax.ShapeDtypeStruct((1, width), jnp.float32)
                if head_name not in heads:
                    heads[head_name] = make("heads", head_name, head, example)
                width = _head_width(head, example)
        return {"encoders": encoders, "heads": heads}


def unit_length(z: Float[Array, "B d"]) -> Float[Array, "B d"]:
    """z / |z|, with a finite gradient at zero."""
    return z * jax.lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=-1, keepdims=True), 1e-12))


def encoded_width(encoder: Any, example: jax.ShapeDtypeStruct) -> int:
    """The size of an encoder's embedding, from shapes alone."""

    def run(example):
        return encoder.apply(
            encoder.init(jax.random.key(0), example), example, train=False, key=None
        ).embedding

    return jax.eval_shape(run, example).shape[-1]


def _head_width(head: Any, example: jax.ShapeDtypeStruct) -> int:
    def run(example):
        return head.apply(head.init(jax.random.key(0), example), example, train=False, key=None)[0]

    return jax.eval_shape(run, example).shape[-1]


def _fold_name(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """A key for a name that does not depend on what other names there are."""
    for byte in name.encode():
        key = jax.random.fold_in(key, byte)
    return key
