"""Folders of weights as other libraries write them: a JSON config beside safetensors, read lazily."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_jax.errors import InputError
from contrastive_jax.named_files import Below, check_regular, read_json

# The names that a library gives its weights, by its config; a folder that has both is read as the first.
CONFIGS = {
    "config.json": ("model.safetensors",),
    "open_clip_config.json": ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
}
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npz", ".npy", ".h5", ".msgpack")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model")


@dataclass(frozen=True)
class Weights:
    """A folder's config and tensors; a tensor is read when it is asked for.

    folder: where they lie. config: the JSON object of `config.json` or `open_clip_config.json`.
    config_name: which of the two. files: {tensor name: the safetensors file that holds it}. given: arrays
    in place of the file's.
    """

    folder: Path
    config: Mapping[str, Any]
    config_name: str
    files: Mapping[str, Path]
    given: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    _open: dict[Path, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors, sorted."""
        return tuple(sorted(self.files))

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; reads no tensor."""
        if name in self.given:
            return self.given[name].shape
        return tuple(self._file(name).get_slice(name).get_shape())

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor as float32, whatever the file keeps it in."""
        if name in self.given:
            return self.given[name]
        return np.asarray(self._file(name).get_tensor(name)).astype(np.float32)

    def json(self, name: str) -> dict[str, Any] | None:
        """Another JSON file of the folder; None if there is none."""
        return read_json(self.folder / name) if (self.folder / name).is_file() else None

    def _file(self, name: str) -> Any:
        path = self.files[name]
        if path not in self._open:
            self._open[path] = _opened(path)
        return self._open[path]


def read(path: str | Path) -> Weights:
    """The weights of a local folder, or of a name `owner/model` on the Hugging Face hub.

    Raises:
        InputError: no such folder, no config, no safetensors (pickles are refused), a damaged file, or a
            shard outside the folder.
    """
    folder = _folder(path)
    there = [name for name in CONFIGS if (folder / name).is_file()]
    with_weights = [name for name in there if _named_files(folder, name) or (folder / INDEX).is_file()]
    for config_name in with_weights or there:
        return Weights(folder, read_json(folder / config_name), config_name, _files(folder, config_name))
    raise InputError(f"{path}: neither {' nor '.join(CONFIGS)} is there; give a folder of a saved model")


def _folder(path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        if folder.suffix in PICKLES:
            raise InputError(f"{path}: pickled weights are refused: convert to safetensors")
        raise InputError(f"{path}: a file; give the folder that holds it and its config")
    if not _HUB_NAME.fullmatch(str(path)) or str(path).startswith("."):
        raise InputError(f"{path}: no such folder, and no name owner/model of the Hugging Face hub")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise InputError(
            f"{path}: no such folder; to fetch it from the hub: pip install 'contrastive-jax[interop]'"
        ) from error
    try:
        return Path(snapshot_download(str(path), allow_patterns=list(_WANTED)))
    except Exception as error:  # the library has a dozen kinds, and its HTTP client as many
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: no such folder, and the hub did not give it ({reason})") from error


def _named_files(folder: Path, config_name: str) -> list[Path]:
    return [folder / name for name in CONFIGS[config_name] if (folder / name).is_file()]


def _files(folder: Path, config_name: str) -> dict[str, Path]:
    index = folder / INDEX
    if index.is_file():
        return _sharded(folder, index)
    found = _named_files(folder, config_name)[:1] or sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        if found:
            names = ", ".join(file.name for file in found)
            raise InputError(f"{folder}: several weights ({names}) and no {INDEX}; leave one")
        pickled = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        if pickled:
            raise InputError(f"{folder}/{pickled[0]}: pickled weights are refused: convert to safetensors")
        raise InputError(f"{folder}: no *.safetensors there")
    return dict.fromkeys(_opened(found[0]).keys(), found[0])


def _sharded(folder: Path, index: Path) -> dict[str, Path]:
    shards, below = read_json(index).get("weight_map"), named_below(folder)
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{index}: no weight_map from tensor names to file names")
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index}: the shard {name!r} is no safetensors file of this folder")
        try:
            path = below.path(name)
        except InputError as error:
            raise InputError(f"{index}: the shard {error}") from error
        missing = set(_named(shards, name)) - set(_opened(path).keys())
        if missing:
            raise InputError(f"{folder / name}: {sorted(missing)[0]} is not in it, against {INDEX}")
    return {tensor: folder / name for tensor, name in shards.items()}


def named_below(folder: Path) -> Below:
    """The files that a file of a folder of weights names. In the hub's cache they are links to its blobs."""
    return Below(folder, also=[folder.parents[1] / "blobs"] if folder.parent.name == "snapshots" else [])


def _named(shards: Mapping[str, str], name: str) -> list[str]:
    return [tensor for tensor, shard in shards.items() if shard == name]


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        check_regular(path)
        return safe_open(path, framework="numpy")  # maps the file into memory
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged, or no safetensors ({error})") from error
