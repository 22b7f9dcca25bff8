"""Paths in an object store, with as much of `pathlib.Path` as the folder of a run needs."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from contrastive_jax.addresses import check_place, scheme
from contrastive_jax.data.faults import StoreFault
from contrastive_jax.errors import InputError
from contrastive_jax.named_files import read_regular

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""So long a store that does not answer is asked again, beside what its library does."""

_PIECE = 1 << 24  # bytes read at a time
_RETRIES = {"max_retries": 8, "initial_delay": "1s", "max_delay": "16s"}  # of TensorStore: as long, about
_LASTING = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")


def place(path: str | os.PathLike[str] | StorePath) -> Path | StorePath:
    """The folder of a run: on this machine, or in a store for ``s3://bucket/folder`` and the like.

    Raises:
      InputError: an address of another kind.
    """
    if isinstance(path, StorePath):
        return path
    text = check_place(os.fspath(path))
    return StorePath(text) if scheme(text) else Path(text)


def content(file: Path | StorePath) -> bytes:
    """The bytes of a file of a run; InputError for a local one that is no regular file, or far too large."""
    return read_regular(file) if isinstance(file, Path) else file.read_bytes()


class StorePath:
    """``s3://bucket/folder/name`` or ``gs://...``: folders are what objects have in their names, no more.

    Every method asks the store anew. An object is written at once or not at all.

    Raises (every method that asks the store):
      FileNotFoundError: no such object, or no such bucket.
      PermissionError: the store refuses.
      StoreFault: the store does not answer, or with another error; or there are no credentials (yet).
      InputError: its library is not installed.
    """

    def __init__(self, address: str, patient: bool = True) -> None:
        self._patient = patient
        self.kind, _, rest = address.partition("://")
        self.key = "/".join(part for part in rest.split("/") if part)

    def __str__(self) -> str:
        return f"{self.kind}://{self.key}"

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(f"{self}/{name}", self._patient)

    @property
    def hasty(self) -> StorePath:
        """The same, asked once: for what is tidied up after a fault, or tried again anyway."""
        return StorePath(str(self), patient=False)

    def absolute(self) -> StorePath:
        return self

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> StorePath:
        return StorePath(f"{self.kind}://{self.key.rpartition('/')[0]}", self._patient)

    @property
    def bucket(self) -> str:
        return self.key.partition("/")[0]

    @property
    def system(self) -> Any:
        """The fsspec file system, which remembers no listings: others write too."""
        return _system(self.kind)

    def exists(self) -> bool:
        """Whether there is such an object, or one below."""
        try:
            self._ask(lambda system: system.info(self.key))
        except FileNotFoundError:
            return False
        return True

    def is_file(self) -> bool:
        try:
            return self._ask(lambda system: system.info(self.key))["type"] == "file"
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether there is an object below."""
        return bool(self._children())

    def iterdir(self) -> Iterator[StorePath]:
        """What lies right below: objects, and folders of them."""
        return (self / name for name in self._children())

    def glob(self, pattern: str) -> Iterator[StorePath]:
        """What lies right below and is called so."""
        return (self / name for name in self._children() if fnmatchcase(name, pattern))

    def files(self) -> dict[str, int]:
        """{name below this folder: size in bytes} of all objects, at any depth."""
        try:
            found = self._ask(lambda system: system.find(self.key, detail=True))
        except FileNotFoundError:
            return {}
        start = len(self.key) + 1
        return {name[start:]: of["size"] for name, of in found.items() if len(name) > start}

    def read_bytes(self) -> bytes:
        return self._ask(lambda system: system.cat_file(self.key))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def digest(self) -> tuple[int, str]:
        """(size, SHA-256) of what is read, in pieces."""
        found, size = hashlib.sha256(), 0
        total = self._ask(lambda system: system.info(self.key))["size"]
        while size < total:
            part = {"start": size, "end": min(size + _PIECE, total)}
            piece = self._ask(lambda system, part=part: system.cat_file(self.key, **part))
            found.update(piece)
            size += len(piece)
            if not piece:
                break
        return size, found.hexdigest()

    def write_bytes(self, content: bytes) -> None:
        self._ask(lambda system: system.pipe_file(self.key, content))

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def create(self, content: bytes) -> None:
        """Writes an object that is not there yet; FileExistsError where one is, if the store knows that."""
        try:
            self._ask(lambda system: system.pipe_file(self.key, content, mode="create"))
        except StoreFault as error:
            if "implemented" not in str(error):
                raise
            self.write_bytes(content)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._ask(lambda system: system.rm_file(self.key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Removes every object below."""
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda system: system.rm(self.key, recursive=True))

    def mkdir(self, *_: Any, **__: Any) -> None:
        """Nothing: a folder is there when an object below it is."""

    def kvstore(self) -> dict[str, Any]:
        """TensorStore's own description of this folder."""
        path = f"{self.key.partition('/')[2]}/"
        if self.kind == "gs":
            return {"driver": "gcs", "bucket": self.bucket, "path": path, "gcs_request_retries": _RETRIES}
        found = {"driver": "s3", "bucket": self.bucket, "path": path, "s3_request_retries": _RETRIES}
        if "AWS_ACCESS_KEY_ID" in os.environ:  # its chain of other places to look says which are not there
            found["aws_credentials"] = {"type": "environment"}
        client = self._ask(lambda system: system.connect() and system.s3.meta)
        if "amazonaws.com" not in client.endpoint_url:
            found |= {"endpoint": client.endpoint_url, "aws_region": client.region_name or "us-east-1"}
        return found

    def _children(self) -> list[str]:
        try:
            found = self._ask(lambda system: system.ls(self.key, detail=False))
        except FileNotFoundError:
            return []
        names = (name.rstrip("/").rpartition("/")[2] for name in found if name.rstrip("/") != self.key)
        return sorted(names)

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """What the file system answers; a fault is tried again for a while."""
        until, pause, told = time.monotonic() + RETRY_SECONDS * self._patient, 0.5, False
        while True:
            try:
                return question(self.system)
            except (FileNotFoundError, PermissionError, FileExistsError, InputError, MemoryError):
                raise
            except (TypeError, AttributeError, NameError):  # ours, and no fault of a store
                raise
            except Exception as error:  # every store has errors of its own
                kind, reason = type(error).__name__, " ".join(str(error).split())[:200]
                if reason.startswith("Forbidden"):  # of gcsfs; s3fs has a PermissionError
                    raise PermissionError(reason) from error
                if kind == "ParamValidationError":
                    raise FileNotFoundError(reason) from error
                fault = StoreFault(f"{self}: {kind}: {reason}")
                if kind in _LASTING or "implemented" in reason or time.monotonic() + pause > until:
                    raise fault from error
                if not told:
                    log.warning("%s; trying again for %.0f s", fault, RETRY_SECONDS)
            told = True
            time.sleep(pause)
            pause = min(2 * pause, 8.0)


@functools.cache
def _system(kind: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(kind, use_listings_cache=False)
    except ImportError as error:
        raise InputError(f"{kind}://: {error}; pip install 'contrastive-jax[remote]'") from error
