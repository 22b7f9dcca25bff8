"""Data sets that TFDS has prepared, read without TensorFlow and without the code that prepared them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data import files, tfds_folders
from contrastive_jax.data.arrayrecord import SYSTEM_CALL, Readers
from contrastive_jax.data.columns import column
from contrastive_jax.data.contents import Contents, of_files
from contrastive_jax.data.faults import RETRY_SECONDS, retried
from contrastive_jax.data.records import BrokenRecord, flatten
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"[^:]+(:[0-9]+\.[0-9]+\.[0-9]+)?")  # `namespace:name` is code from the network


class TFDS:
    """A random-access source over a split of a data set that lies prepared as ArrayRecord.

    A record has the set's features, nested ones flattened, with ``key`` and ``record``. Pictures are the
    encoded bytes; texts are strings; a class has its name beside it (``label``: ``label_name``).

    Args:
        argument: ``NAME/SPLIT``; the name as TFDS has it (``name``, ``name/config``, ``name:1.0.0``) or the
            folder of a prepared version. Nothing is downloaded or prepared, and no code of the set is run.
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
        try:
            folder = tfds_folders.find(name, data_dir)
            self._features = tfds_folders.features_of(folder)
            self._shards = tfds_folders.shards_of(folder, split)
        except InputError as error:
            raise InputError(f"source {self.name!r}: {error}") from error
        self._classes = tfds_folders.classes_of(folder, self._features)
        self._encoded = _encoded(self._features)
        self._readers = Readers([shard.filename for shard in self._shards])
        self._places = files.Places([shard.take for shard in self._shards])

    def __reduce__(self) -> tuple[type[TFDS], tuple[str, str]]:
        return TFDS, self._arguments

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one record.

        Raises:
            BrokenRecord: it cannot be parsed.
            StoreFault: it cannot be read.
            IndexError: there is none of this number.
        """
        shard, row = self._places[index]
        values = retried(lambda: self._values(shard, row), self._shards[shard].filename, RETRY_SECONDS)
        record = {name: _plain(value) for name, value in flatten(values).items()}
        for name, classes in self._classes.items():
            number = record.get(name)
            if isinstance(number, int) and 0 <= number < len(classes):
                record[f"{name}_name"] = classes[number]
        return {"key": str(index)} | record | {"record": index}

    def _values(self, shard: int, row: int) -> dict[str, Any]:
        try:
            content = self._readers[shard].read([self._shards[shard].skip + row])[0]
            return self._features.deserialize_example_np(content, decoders=self._encoded)
        except Exception as error:  # both libraries raise a dozen kinds, some of several lines
            if isinstance(error, OSError) or SYSTEM_CALL.search(str(error)):
                raise OSError(tfds_folders.line(error)) from error
            raise BrokenRecord(tfds_folders.line(error)) from error

    def contents(self) -> list[Contents]:
        """The files of its split."""
        return [of_files(self.name, len(self), [shard.filename for shard in self._shards])]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Any:
        """One field of all records; it parses the records but decodes no picture.

        Raises:
            KeyError: there is no such field, or it is a picture.
        """
        rows = range(len(self)) if rows is None else rows
        if name == "record":
            return rows
        if name in flatten(self._encoded):
            raise KeyError(name)
        return column(name, rows, self.__getitem__, remote=False)


def _encoded(features: Any) -> dict[str, Any]:
    """The decoders that leave pictures as they are, nested as the features are."""
    import tensorflow_datasets as tfds

    found: dict[str, Any] = {}
    for name, kind in features.items():
        inner = kind
        while isinstance(inner, tfds.features.Sequence) and not isinstance(inner, tfds.features.Video):
            inner = inner.feature
        if isinstance(inner, (tfds.features.Image, tfds.features.Video)):
            skip = tfds.decode.SkipDecoding()
            # It has no word on pictures in lists.
            skip.decode_batch_example_np = skip.decode_ragged_example_np = skip.decode_example_np
            found[name] = skip
        elif isinstance(inner, tfds.features.FeaturesDict) and (below := _encoded(inner)):
            found[name] = below
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _text(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return _plain(value.item())
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return _plain(value.tolist())
    return value


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
