"""Data sets that TFDS has prepared, read without TensorFlow."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.arrayrecord import SYSTEM_CALL
from contrastive_jax.data.faults import RETRY_SECONDS, retried
from contrastive_jax.data.records import BrokenRecord, flatten
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
_NAME = re.compile(r"[^:]+(:[0-9]+\.[0-9]+\.[0-9]+)?")  # `namespace:name` is code from the network


class TFDS:
    """A random-access source over a split of a data set that lies prepared as ArrayRecord.

    A record has the set's features, nested ones flattened, with ``key`` and ``record``. Pictures are the
    encoded bytes; texts are strings; a class has its name beside it (``label``: ``label_name``).

    Args:
        argument: ``NAME/SPLIT``; the name as TFDS has it (``name``, ``name/config``, ``name:1.0.0``) or the
            folder of a prepared version. Nothing is downloaded or prepared.
        data_dir: where TFDS keeps its sets; its own default otherwise.

    Raises:
        InputError: the set or the split is not there, or not as ArrayRecord, or its features are of classes
            that are not TFDS's own.
    """

    def __init__(self, argument: str, data_dir: str = "") -> None:
        self.name, self._arguments = f"tfds:{argument}", (argument, data_dir)
        name, slash, split = argument.rpartition("/")
        if not slash:
            raise InputError(f"source {self.name!r}: no split; write tfds:NAME/SPLIT")
        if not _NAME.fullmatch(name):
            raise InputError(
                f"source {self.name!r}: sets from elsewhere are not loaded, since that runs their code; "
                "prepare it, and name the folder of the prepared version"
            )
        import tensorflow_datasets as tfds

        folder = os.path.expanduser(name)
        if os.path.isdir(folder):
            _check_features(self.name, Path(folder))
        elif data_dir:
            _check_features(self.name, Path(data_dir).expanduser() / re.split("[/:]", name)[0])
        try:
            if os.path.isdir(folder):
                builder = tfds.builder_from_directory(folder)
            else:
                builder = tfds.builder(name, data_dir=data_dir or None)
            features = builder.info.features
            encoded = {
                feature: tfds.decode.SkipDecoding()
                for feature, kind in features.items()
                if isinstance(kind, tfds.features.Image)
            }
            self._rows = builder.as_data_source(split=split, decoders=encoded)
        except Exception as error:  # TFDS raises a dozen kinds, some of several lines
            if "file format" in str(error).lower():
                raise InputError(
                    f"source {self.name!r}: it is not prepared as ArrayRecord; "
                    f"tfds.builder(name, file_format='array_record').download_and_prepare() does that"
                ) from error
            raise InputError(f"source {self.name!r}: {_line(error)}") from error
        self._classes = {
            feature: kind.names
            for feature, kind in features.items()
            if isinstance(kind, tfds.features.ClassLabel)
        }
        self._pictures = set(encoded)

    def __reduce__(self) -> tuple[type[TFDS], tuple[str, str]]:
        return TFDS, self._arguments

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record.

        Raises:
            BrokenRecord: it cannot be parsed.
            StoreFault: it cannot be read.
            IndexError: there is none of this number.
        """
        if not 0 <= index < len(self._rows):
            raise IndexError(f"record {index} of {len(self._rows)}")
        row = retried(lambda: self._row(index), self.name, RETRY_SECONDS)
        record = {name: _plain(value) for name, value in flatten(row).items()}
        for name, classes in self._classes.items():
            number = record.get(name)
            if isinstance(number, int) and 0 <= number < len(classes or ()):
                record[f"{name}_name"] = classes[number]
        return {"key": str(index)} | record | {"record": index}

    def _row(self, index: int) -> dict[str, Any]:
        try:
            return self._rows[index]
        except Exception as error:  # as above
            if isinstance(error, OSError) or SYSTEM_CALL.search(str(error)):
                raise OSError(_line(error)) from error
            raise BrokenRecord(_line(error)) from error

    def column(self, name: str) -> Any:
        """One field of all records; it parses the records but decodes no picture.

        Raises:
            KeyError: there is no such field, or it is a picture.
        """
        if name == "record":
            return range(len(self))
        if name in self._pictures:
            raise KeyError(name)
        values, seen = [], False
        for index in range(len(self)):
            try:
                record = self[index]
            except BrokenRecord:
                record = {}
            seen |= name in record
            values.append(record.get(name, ""))
        if not seen:
            raise KeyError(name)
        return values


def _check_features(source: str, folder: Path) -> None:
    """Raises InputError where a prepared set names classes of others, whose modules TFDS would import."""
    for file in sorted(folder.rglob("features.json")):
        try:
            named = set(_classes(json.loads(file.read_bytes())))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"source {source!r}: {file} cannot be read ({error})") from error
        others = sorted(each for each in named if not each.startswith("tensorflow_datasets."))
        if others:
            raise InputError(
                f"source {source!r}: {file} names the class {others[0]!r}, whose code is not loaded; "
                "only sets with features of TFDS's own are read"
            )


def _classes(features: Any) -> Iterator[str]:
    if isinstance(features, list):
        features = dict(enumerate(features))
    for name, value in features.items() if isinstance(features, dict) else ():
        if name in _CLASS_KEYS and isinstance(value, str) and "." in value:
            yield value
        yield from _classes(value)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return _plain(value.item())
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(each) for each in value.tolist()]
    return value


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
