"""The folders in which TFDS keeps data sets: found, and described, without a look at the code that they name.

TFDS's own way is to import the modules that `features.json` names, and to look a name up among the data sets
whose code is installed. Here the description is read as data, checked, and only then made into features.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_jax.errors import InputError
from contrastive_jax.named_files import JSON_BYTES, json_of, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}")
_PART = re.compile(r"[.+-]*\w[\w.+-]*")  # of a name, a split or a file's name: no folder above, none below
_TEMPLATE = re.compile(r"(?:[\w.@+-]|\{[A-Z_]+\})*")  # more would be Python's language of formats
_DTYPE = re.compile(r"string|str|bytes|object|bool_?|u?int[0-9]{1,2}|b?float[0-9]{1,2}")
_VALUES = 1 << 27  # of an array
_READ = (
    *("FeaturesDict", "Sequence", "Tensor", "Scalar", "Text", "ClassLabel", "Image", "LabeledImage", "Video"),
    *("Audio", "BBoxFeature", "Translation", "TranslationVariableLanguages"),
)


def find(name: str, data_dir: str) -> Path:
    """The folder of a prepared version.

    Args:
        name: that folder; or ``set``, ``set/config``, with ``:1.0.0`` behind or the newest version.
        data_dir: where TFDS keeps its sets; $TFDS_DATA_DIR or ~/tensorflow_datasets where it is empty.

    Raises:
        InputError: there is none.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    kept = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    if "://" in kept or kept.startswith("/gcs/"):
        raise InputError(f"{kept} is no folder of this machine; copy the prepared set to one")
    path, _, version = name.partition(":")
    parts = path.split("/")
    if not all(map(_PART.fullmatch, parts)):
        raise InputError(f"{name!r} is no name of a set, and no folder")
    inside = Path(kept).expanduser().joinpath(*parts)
    if not inside.is_dir():
        raise InputError(f"no set {path!r} is prepared in {kept}")
    if not _versions(inside) and len(parts) == 1:
        inside = inside / _default_config(inside)
    versions = [each for each in _versions(inside) if version in ("", each)]
    if not versions:
        raise InputError(f"no version {version} of {path!r} is prepared in {inside}".replace("  ", " "))
    return inside / max(versions, key=lambda each: [int(number) for number in each.split(".")])


def _versions(folder: Path) -> list[str]:
    try:
        return [each for each in os.listdir(folder) if _VERSION.fullmatch(each)]
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror})") from error


def _default_config(folder: Path) -> str:
    configs = sorted(each.name for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")
    file = folder / ".config" / "metadata.json"
    named = _json(file).get("default_config_name") if file.exists() else None
    if named in configs:
        return named
    if len(configs) == 1:
        return configs[0]
    raise InputError(
        f"{folder} holds the configs {', '.join(configs) or 'none'}; name one: {folder.name}/CONFIG"
    )


def features_of(folder: Path) -> Any:
    """The `tfds.features.FeaturesDict` that ``features.json`` describes, names of its classes aside.

    Raises:
        InputError: the file cannot be read, or names a class that is not TFDS's own.
    """
    from google.protobuf import json_format
    from tensorflow_datasets import features as tfds
    from tensorflow_datasets.core.proto import feature_pb2

    file = folder / "features.json"
    content = _json(file)
    if "type" in content:
        raise InputError(f"{file} is of an old TFDS; prepare the set anew")
    try:
        described = json_format.ParseDict(content, feature_pb2.Feature())
        classes = {name: getattr(tfds, name) for name in _READ}
        own = {f"{kind.__module__}.{kind.__name__}" for kind in classes.values()}
        own |= {alias for kind in classes.values() for alias in kind.__dict__.get("ALIASES", ())}
        _check(file, described, own)
        features = tfds.FeatureConnector.from_proto(described)
        if not isinstance(features, tfds.FeaturesDict):
            raise ValueError("it describes no record of fields")
    except InputError:
        raise
    except Exception as error:  # the library has a dozen kinds
        raise InputError(f"{file} cannot be read ({line(error)})") from error
    return features


def _check(file: Path, feature: Any, own: set[str]) -> None:
    """Raises InputError where TFDS would import, or uncompress without a bound."""
    name, kind = feature.python_class_name, feature.WhichOneof("content")
    if name not in own or kind == "json_feature":
        raise InputError(
            f"{file} names the class {name[:100]!r}, whose code is not loaded; "
            f"only TFDS's own features {', '.join(_READ)} are read"
        )
    content = getattr(feature, kind) if kind else None
    for inner in _inner(feature, kind):
        _check(file, inner, own)
    dtype = getattr(content, "dtype", "")
    if dtype and not _DTYPE.fullmatch(dtype):
        raise InputError(f"{file} names the type {dtype[:100]!r}, which is not read")
    values = 1
    for size in content.shape.dimensions if hasattr(content, "shape") else ():
        values *= max(size, 1)
    if values > _VALUES:
        raise InputError(f"{file} has an array of {values:,} values, and at most {_VALUES:,} are read")
    if getattr(content, "encoding", "").lower() == "zlib" or getattr(content, "lazy_decode", False):
        raise InputError(f"{file} has a compressed {name.rpartition('.')[2]}, which is not read")


def _inner(feature: Any, kind: str | None) -> Iterator[Any]:
    if kind == "features_dict":
        yield from feature.features_dict.features.values()
    elif kind == "sequence":
        yield feature.sequence.feature


def classes_of(folder: Path, features: Any) -> dict[str, list[str]]:
    """{field: names of its classes}, of those that have some."""
    from tensorflow_datasets import features as tfds

    found = {}
    for name, kind in features.items():
        if not isinstance(kind, tfds.ClassLabel):
            continue
        try:
            content = read_regular(folder / f"{name.replace('/', '.')}.labels.txt", JSON_BYTES).decode()
        except (OSError, ValueError):
            continue
        found[name] = [each.strip() for each in content.split("\n") if each.strip()]
    return found


def shards_of(folder: Path, split: str) -> list[Any]:
    """What is to be read of which ArrayRecord files: `filename`, `skip`, `take` of each, in order.

    Raises:
        InputError: the set is not prepared so, has no such split, or names a file elsewhere.
    """
    import tensorflow_datasets as tfds
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import dataset_info_pb2

    file = folder / "dataset_info.json"
    content = _json(file)
    try:
        info = dataset_info_pb2.DatasetInfo()
        json_format.ParseDict(content, info, ignore_unknown_fields=True)
        if "array_record" not in (info.file_format, *info.alternative_file_formats):
            raise InputError(
                "it is not prepared as ArrayRecord; "
                "tfds.builder(name, file_format='array_record').download_and_prepare() does that"
            )
        parts = [info.name, *(each.name for each in info.splits)]
        if not all(map(_PART.fullmatch, parts)):
            raise InputError(f"{file} names no file of its folder")
        if not all(_TEMPLATE.fullmatch(each.filepath_template) for each in info.splits):
            raise InputError(f"{file} names its files by a template that is not read")
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=info.name, filetype_suffix="array_record"
        )
        split_infos = tfds.core.SplitDict.from_proto(info.splits, template)
        shards = list(split_infos[split].file_instructions)
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(line(error)) from error
    for path in map(Path, (shard.filename for shard in shards)):
        if path.parent != folder:
            raise InputError(f"{file} names {str(path)[-100:]!r}, which is no file of its folder")
        if not path.is_file():
            raise InputError(f"{path} is {'no regular file' if path.exists() else 'not there'}")
    return shards


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json_of(file)
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read ({getattr(error, 'strerror', None) or line(error)})"
        ) from error
    return content


def line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
