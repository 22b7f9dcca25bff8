"""Where weights come from: another run's checkpoint, or a folder of another library.

Each has `title`, what the log calls it; `parts`, what it holds, as "encoders/image"; `take(here, there)`,
which makes a part of it stand for one of ours and gives {our parameter's name: shape}; and `read(wanted)`,
{our parameter's name: array} in the types and at the places of the structures `wanted`; `digest()`, the same
for the same weights.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from contrastive_jax.configuration import Named, build, complete
from contrastive_jax.data.views import Text
from contrastive_jax.distributed.processes import Group
from contrastive_jax.errors import InputError
from contrastive_jax.interop.sentence_transformers import default_prompt
from contrastive_jax.training import lora
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.manifest import MANIFEST
from contrastive_jax.training.stored_json import parsed
from contrastive_jax.training.stores.paths import StorePath, content, place
from contrastive_jax.training.structure import named_leaves, part_of

if TYPE_CHECKING:
    from jaxtyping import Array

Shapes = dict[str, tuple[int, ...]]
Wanted = Mapping[str, jax.ShapeDtypeStruct]
_PARAMS, _ADAPTERS = "params/", "lora/"


def is_run(path: str) -> bool:
    """Whether a path is a work directory."""
    return (place(path) / "checkpoints").is_dir()


class Run:
    """A checkpoint of a work directory, whose config may be any other; only what is taken is read.

    Its adapters are merged into what they adapt. step: None for the newest intact one.
    Raises InputError if there is none, or that of `step` is damaged; NoIntactCheckpoint.
    """

    def __init__(self, path: str, step: int | None, group: Group) -> None:
        self._path = place(path)
        self._group = group
        with self._checkpoints() as checkpoints:
            found = checkpoints.described(step)
        if found is None:
            raise InputError("no checkpoint yet; train there first")
        self._step, tree = found
        named = ((name, tuple(leaf["shape"])) for name, leaf in tree.items() if name.startswith(_PARAMS))
        self._stored: Shapes = {name.removeprefix(_PARAMS): shape for name, shape in named}
        self._there: dict[str, str] = {}
        self.title = f"{path}, step {self._step}"

    def digest(self) -> str:
        manifest = self._path / "checkpoints" / str(self._step) / MANIFEST
        return hashlib.sha256(manifest.read_bytes()).hexdigest()

    @property
    def parts(self) -> list[str]:
        return list(dict.fromkeys(part_of(n) for n in self._stored if not n.startswith(_ADAPTERS)))

    def take(self, here: str, there: str) -> Shapes:
        taken = {name: here + name.removeprefix(there) for name in self._stored if part_of(name) == there}
        self._there |= {own: name for name, own in taken.items()}
        return {own: self._stored[name] for name, own in taken.items()}

    def read(self, wanted: Wanted) -> dict[str, Array]:
        names = {own: self._there[own] for own in wanted}
        adapted = {own: name for own, name in names.items() if f"{_ADAPTERS}{name}/a" in self._stored}
        stored = {_PARAMS + names[own]: leaf for own, leaf in wanted.items()}
        for own, name in adapted.items():
            stored |= {_PARAMS + side: x for side, x in self._adapter(name, wanted[own]).items()}
        with self._checkpoints() as checkpoints:
            arrays = checkpoints.arrays(self._step, stored)
        found = {own: arrays[_PARAMS + name] for own, name in names.items()}
        for own, name in adapted.items():
            a, b = (arrays[_PARAMS + side] for side in self._adapter(name, wanted[own]))
            merge = functools.partial(lora.merge, alpha=self._alphas[name])
            found[own] = jax.jit(merge, out_shardings=wanted[own].sharding)(found[own], a, b)
        return found

    def _adapter(self, name: str, matrix: jax.ShapeDtypeStruct) -> dict[str, jax.ShapeDtypeStruct]:
        """The two parts of a matrix's adapter, on every device."""
        everywhere = NamedSharding(matrix.sharding.mesh, PartitionSpec())
        sides = (f"{_ADAPTERS}{name}/{side}" for side in "ab")
        return {x: jax.ShapeDtypeStruct(self._stored[x], matrix.dtype, sharding=everywhere) for x in sides}

    @functools.cached_property
    def _alphas(self) -> dict[str, float]:
        section = ConfigDict(config_of(self._path).get("lora", {}))
        complete(section, Named(lora.Adapter), "lora")
        matrices = [n.removeprefix(_ADAPTERS)[: -len("/a")] for n in self._stored if n.startswith(_ADAPTERS)]
        return lora.alphas(build(section, Named(lora.Adapter), "lora"), matrices)

    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(self._path / "checkpoints", read_only=True, group=self._group)


class Library:
    """A folder, or hub name, of another library's weights.

    encoders: {name: (encoder, an example of what it is given)} of ours. Raises InputError for weights that
    cannot be read.
    """

    def __init__(self, path: str, encoders: Mapping[str, tuple[Any, jax.ShapeDtypeStruct]]) -> None:
        from contrastive_jax import interop

        self._interop, self._weights, self._encoders = interop, interop.read(path), encoders
        self._arrays: dict[str, np.ndarray] = {}
        self.title = path

    @functools.cached_property
    def parts(self) -> list[str]:
        found, refusals = [], []
        for part in self._interop.PARTS:
            try:
                self._interop.architecture(self._weights, part)
            except InputError as error:
                refusals.append(error)
                continue
            found.append(f"encoders/{part}")
            if self._interop.head(self._weights, part) is not None:
                found.append(f"heads/{part}")
        if not found:
            raise refusals[0]
        return found + ["losses/scale"] * ("scale" in self._interop.scale(self._weights))

    def check_views(self, views: Mapping[str, Any]) -> None:
        """Raises InputError for texts that are not put as the weights' library puts them.

        views: by the key of the config, those whose encoders start from here.
        """
        prompt = default_prompt(self._weights.folder)
        for key, view in views.items() if prompt else ():
            if isinstance(view, Text) and not view.prompts:
                raise InputError(
                    f"its library puts {prompt!r} before every text (config_sentence_transformers.json): set "
                    f"{key}.prompts=({prompt + '{}'!r},), or ('{{}}',) for texts as they are"
                )

    def digest(self) -> str:
        """Of what has been taken."""
        found = hashlib.sha256()
        for name, array in sorted(self._arrays.items()):
            found.update(name.encode())
            found.update(array.tobytes())
        return found.hexdigest()

    def take(self, here: str, there: str) -> Shapes:
        (kind, name), part = here.split("/"), there.split("/")[1]
        if kind == "encoders":
            encoder, example = self._encoders[name]
            tree = self._interop.load(self._weights, part, encoder, example)
        elif kind == "heads":
            tree = {"out": self._interop.head(self._weights, part)}
        else:
            tree = self._interop.scale(self._weights)
            tree = {"log_scale": np.log(np.float32(tree.pop("scale"))), **tree}
        taken = {f"{here}/{own}": np.asarray(array, np.float32) for own, array in named_leaves(tree).items()}
        self._arrays |= taken
        return {own: array.shape for own, array in taken.items()}

    def read(self, wanted: Wanted) -> dict[str, Array]:
        def one(array: np.ndarray, leaf: jax.ShapeDtypeStruct) -> Array:
            array = array.astype(leaf.dtype, copy=False)
            return jax.make_array_from_callback(array.shape, leaf.sharding, lambda index: array[index])

        return {own: one(self._arrays[own], leaf) for own, leaf in wanted.items()}


def config_of(path: Path | StorePath) -> dict[str, Any]:
    """The config of a work directory as it is stored."""
    file = path / "config.json"
    try:
        found = content(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error})") from error
    return parsed(found, str(file), "give the folder of a run")
