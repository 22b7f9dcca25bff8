"""A manifest of a folder: every file's size and SHA-256, so that one changed byte is found."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from contrastive_jax.training.workdir import sync_folder

MANIFEST = "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message is one line."""


class DamagedCheckpoint(CheckpointError):  # noqa: N818
    """A folder is not what its manifest says; the message names the file."""


def write_manifest(folder: Path) -> None:
    """Writes `manifest.json` into `folder` and makes everything in the folder durable.

    The manifest lists every file below `folder` by its relative path, with its size in bytes and its
    SHA-256, and ends with the SHA-256 of that list.
    """
    files = {}
    for name, path in _files(folder).items():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            files[name] = {
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
                "size": os.fstat(file.fileno()).st_size,
            }
    with open(folder / MANIFEST, "wb") as file:
        file.write(_render(files))
        file.flush()
        os.fsync(file.fileno())
    for parent, _, _ in os.walk(folder):
        sync_folder(Path(parent))


def verify_manifest(folder: Path, part: int = 0, parts: int = 1) -> None:
    """Reads every file below `folder` and compares it with the manifest.

    With `parts` processes each reads one of as many shares; the list of files each compares.

    Raises:
      DamagedCheckpoint: a file is missing, not listed, of another size or of another content, or
        the manifest itself is.
    """
    listed, found = _listed(folder), _files(folder)
    for number, name in enumerate(sorted(listed.keys() | found.keys())):
        if name not in found:
            raise DamagedCheckpoint(f"{name} is missing")
        if name not in listed:
            raise DamagedCheckpoint(f"{name} is not in the manifest")
        if number % parts != part:
            continue
        try:
            with open(found[name], "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != listed[name]["size"]:
                    raise DamagedCheckpoint(f"{name} has {size} bytes instead of {listed[name]['size']}")
                if hashlib.file_digest(file, "sha256").hexdigest() != listed[name]["sha256"]:
                    raise DamagedCheckpoint(f"{name} does not have the content that was written")
        except PermissionError:
            raise  # a matter of rights, which says nothing of the content
        except OSError as error:
            raise DamagedCheckpoint(f"{name} cannot be read: {error.strerror}") from error


def _files(folder: Path) -> dict[str, Path]:
    files = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    listing = {path.relative_to(folder).as_posix(): path for path in files}
    listing.pop(MANIFEST, None)
    return listing


def _render(files: dict[str, Any]) -> bytes:
    listing = json.dumps(files, sort_keys=True, indent=1)
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return json.dumps({"files": files, "listing_sha256": digest}, sort_keys=True, indent=1).encode() + b"\n"


def _listed(folder: Path) -> dict[str, Any]:
    try:
        content = (folder / MANIFEST).read_bytes()
        files = json.loads(content)["files"]
    except PermissionError:
        raise
    except OSError as error:
        raise DamagedCheckpoint(f"{MANIFEST} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedCheckpoint(f"{MANIFEST} is torn or changed") from None
    # JSON reads alike with other blanks or escapes: only the very bytes that were written will do.
    if _render(files) != content:
        raise DamagedCheckpoint(f"{MANIFEST} is torn or changed")
    return files
