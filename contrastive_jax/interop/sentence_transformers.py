"""Folders of sentence-transformers: an encoder of `transformers` and what makes one vector of its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from contrastive_jax.errors import InputError
from contrastive_jax.interop.names import Row, Table
from contrastive_jax.interop.rows import one
from contrastive_jax.interop.transforms import TRANSPOSED
from contrastive_jax.named_files import Below, read_json

if TYPE_CHECKING:
    from contrastive_jax.interop.reading import Weights

MODULES = "modules.json"
POOLINGS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
IDENTITY = "torch.nn.modules.linear.Identity"
_ORDER = ("Transformer", "Pooling", "Dense", "Normalize")


class Modules(NamedTuple):
    """What follows the encoder.

    pooling: `cls` or `mean`. dense: the folder of a matrix on the pooled vector, None without. normalize:
    to unit length at the end. length: the most tokens that a text is cut to, None where it is not said.
    """

    pooling: str
    dense: Path | None
    normalize: bool
    length: int | None


def modules(weights: Weights) -> Modules | None:
    """What a folder says, None if it is not one of sentence-transformers.

    Raises:
        InputError: modules in another order than Transformer, Pooling, Dense, Normalize (the last two may
            be missing), of another kind, or outside the folder; a pooling other than `cls` or `mean`; a
            Dense with an activation.
    """
    file = weights.folder / MODULES
    if not file.is_file():
        return None
    paths = _paths(file)
    pooling = read_json(paths["Pooling"] / "config.json")
    dense = paths.get("Dense")
    if dense is not None:
        _check_dense(dense / "config.json")
    return Modules(_pooling(paths["Pooling"], pooling), dense, "Normalize" in paths, _length(weights.folder))


def default_prompt(folder: Path) -> str:
    """What the folder's library puts before every text unless it is told otherwise; '' for nothing."""
    file = folder / "config_sentence_transformers.json"
    config = read_json(file) if file.is_file() else {}
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
        raise InputError(f"{file}: default_prompt_name={name!r} names none of its prompts")
    return prompts[name]


def fields(weights: Weights) -> dict[str, str]:
    """The fields of an encoder's config section that the folder settles."""
    found = modules(weights)
    return {} if found is None else {"pooling": found.pooling}


def dense(weights: Weights) -> Table | None:
    """The names of the Dense module's tensors; None without one."""
    found = modules(weights)
    if found is None or found.dense is None:
        return None
    bias = read_json(found.dense / "config.json").get("bias", True)
    return Table(dense_rows(bias), folder=found.dense)


def dense_rows(bias: bool) -> tuple[Row, ...]:
    """The names of a Dense module's tensors and a linear head's."""
    rows = (one("kernel", "linear.weight", TRANSPOSED), one("bias", "linear.bias"))
    return rows if bias else rows[:1]


def _paths(file: Path) -> dict[str, Path]:
    listed, below = read_json(file, list), Below(file.parent)
    paths: dict[str, Path] = {}
    for module in listed:
        if not isinstance(module, dict) or not all(
            isinstance(module.get(key), str) for key in ("type", "path")
        ):
            raise InputError(f"{file}: {module!r} is no module with a type and a path")
        kind, folder = module["type"].rpartition(".")[2], file.parent
        try:
            folder = below.path(module["path"]) if module["path"] else folder  # '' for the folder itself
        except InputError as error:
            raise InputError(f"{file}: the path {error}") from error
        if kind not in _ORDER or kind in paths:
            raise InputError(f"{file}: a module {kind} here is not supported; only {', '.join(_ORDER)} are")
        paths[kind] = folder
    ordered = sorted(paths, key=_ORDER.index)
    if list(paths) != ordered or ordered[:2] != list(_ORDER[:2]):
        raise InputError(
            f"{file}: modules {', '.join(paths)}: only the order {', '.join(_ORDER)} is supported"
        )
    return paths


def _pooling(folder: Path, config: dict[str, Any]) -> str:
    """From the names of one or several modes, or from flags as versions before 6 wrote them."""
    named = config.get("pooling_mode")
    modes = [named] if isinstance(named, str) else list(named or ())
    modes += [mode for mode, flag in POOLINGS.items() if named is None and config.get(flag)]
    other = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    other = [key for key in other if key not in POOLINGS.values()]
    if len(modes) != 1 or other or modes[0] not in POOLINGS:
        found = ", ".join(modes + other) or "none"
        raise InputError(f"{folder}/config.json: pooling {found} is not supported; one of cls, mean is")
    return modes[0]


def _check_dense(file: Path) -> None:
    config = read_json(file)
    if (activation := config.get("activation_function")) != IDENTITY:
        raise InputError(f"{file}: activation_function={activation!r} is not supported; only {IDENTITY} is")
    for key in ("use_residual", "module_input_name", "module_output_name"):
        if config.get(key, wanted := False if key == "use_residual" else "sentence_embedding") != wanted:
            raise InputError(f"{file}: {key}={config[key]!r} is not supported; only {wanted!r} is")


def _length(folder: Path) -> int | None:
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        if (folder / name).is_file() and (length := read_json(folder / name).get(key)) is not None:
            return int(length) if length < 1e9 else None
    return None
