"""A manifest of a folder: every file's size and SHA-256, so that one changed byte is found."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from contrastive_jax.training.stores.paths import StorePath, content
from contrastive_jax.training.workdir import sync_folder

MANIFEST = "manifest.json"
Folder = Path | StorePath
_THREADS = 4  # hashing lets others run meanwhile, and the train step wants its cores
_WRITTEN_BY = re.compile(r"(?:^|/)ocdbt\.process_(\d+)/")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message is one line."""


class DamagedCheckpoint(CheckpointError):  # noqa: N818
    """A folder is not what its manifest says; the message names the file."""


def digests(folder: Folder, part: int = 0, parts: int = 1) -> dict[str, Any]:
    """{name: {"sha256", "size"}} of this process's share of the files below `folder`, which are synced.

    With `parts` processes each reads one of as many shares, and of Orbax's files those that it has written.
    What a process does not see yet, process 0 digests in `write_manifest`.
    """
    files = {name: path for name, path in _files(folder).items() if _share(name, parts) == part}
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(files, pool.map(_digest, files.values())))


def write_manifest(folder: Folder, known: Mapping[str, Any] | None = None) -> None:
    """Writes `manifest.json` into `folder` and makes everything in the folder durable.

    The manifest lists every file below `folder` by its relative path, with its size in bytes and its
    SHA-256, and ends with the SHA-256 of that list.

    Args:
      known: what `digests` has found already, in all processes; the other files are read here.
    """
    there, known = _files(folder), known or {}
    left = [name for name in there if name not in known]
    with ThreadPoolExecutor(_THREADS) as pool:
        more = dict(zip(left, pool.map(_digest, (there[name] for name in left))))
    content = _render({name: more.get(name) or known[name] for name in there})
    if isinstance(folder, StorePath):
        (folder / MANIFEST).write_bytes(content)
        return
    with open(folder / MANIFEST, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    for parent, _, _ in os.walk(folder):
        sync_folder(Path(parent))


def verify_manifest(folder: Folder, part: int = 0, parts: int = 1) -> None:
    """Reads every file below `folder` and compares it with the manifest.

    With `parts` processes each reads one of as many shares; the list of files each compares.

    Raises:
      DamagedCheckpoint: a file is missing, not listed, of another size or of another content, or
        the manifest itself is.
    """
    listed, found = _listed(folder), _files(folder)
    for name in sorted(listed.keys() | found.keys()):
        if name not in found:
            raise DamagedCheckpoint(f"{name} is missing")
        if name not in listed:
            raise DamagedCheckpoint(f"{name} is not in the manifest")
    own = sorted(name for name in listed if _share(name, parts) == part)
    with ThreadPoolExecutor(_THREADS) as pool:
        # In order: of several that are damaged the same one is named each time.
        for _ in pool.map(lambda name: _verify(name, found[name], listed[name]), own):
            pass


def _verify(name: str, path: Folder, listed: Mapping[str, Any]) -> None:
    try:
        found = _digest(path, listed["size"])
    except PermissionError:
        raise  # a matter of rights, which says nothing of the content
    except OSError as error:
        raise DamagedCheckpoint(f"{name} cannot be read: {error.strerror or error}") from error
    if found["size"] != listed["size"]:
        raise DamagedCheckpoint(f"{name} has {found['size']} bytes instead of {listed['size']}")
    if found["sha256"] != listed["sha256"]:
        raise DamagedCheckpoint(f"{name} does not have the content that was written")


def _digest(path: Folder, wanted: int | None = None) -> dict[str, Any]:
    """Of a file, which is synced where it is for writing (`wanted` None); of another size it is not read."""
    if isinstance(path, StorePath):
        size, found = path.digest()
        return {"sha256": found, "size": size}
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if wanted is None:
            os.fsync(file.fileno())
        elif size != wanted:
            return {"sha256": "", "size": size}
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": size}


def _share(name: str, parts: int) -> int:
    """Whose a file is: of Orbax's those of who wrote it, who has them in memory still."""
    written = _WRITTEN_BY.search(name)
    return int(written.group(1) if written else zlib.crc32(name.encode())) % parts


def _files(folder: Folder) -> dict[str, Folder]:
    if isinstance(folder, StorePath):
        return {name: folder / name for name in folder.files() if name != MANIFEST}
    files = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    listing = {path.relative_to(folder).as_posix(): path for path in files}
    listing.pop(MANIFEST, None)
    return listing


def _render(files: dict[str, Any]) -> bytes:
    listing = json.dumps(files, sort_keys=True, indent=1)
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return json.dumps({"files": files, "listing_sha256": digest}, sort_keys=True, indent=1).encode() + b"\n"


def _listed(folder: Folder) -> dict[str, Any]:
    try:
        written = content(folder / MANIFEST)
        files = json.loads(written)["files"]
    except PermissionError:
        raise
    except OSError as error:
        raise DamagedCheckpoint(f"{MANIFEST} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedCheckpoint(f"{MANIFEST} is torn or changed") from None
    # JSON reads alike with other blanks or escapes: only the very bytes that were written will do.
    if _render(files) != written:
        raise DamagedCheckpoint(f"{MANIFEST} is torn or changed")
    return files
