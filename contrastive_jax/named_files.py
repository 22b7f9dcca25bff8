"""Files that other files name: regular ones below a root, or refused by name.

What a data set, a folder of weights, an index or a run names is somebody else's word. A name is relative and
stays below the folder of the file that holds it, after all links are followed. A pipe, a socket or a device
is not opened, and no more is read than is allowed, whatever the size of a file is said to be.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE_BYTES = 1 << 28  # of one file; no picture that Pillow decodes is as large
JSON_BYTES = 1 << 26  # of a JSON file
_SHOWN = 80  # characters of a name
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a pipe would wait for who writes
_KINDS = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISDIR: "a folder",
}


def shown(name: str) -> str:
    """A name as a message has it: quoted, and without its middle where it is long."""
    return repr(name if len(name) <= _SHOWN else f"{name[: _SHOWN // 2]}…{name[-_SHOWN // 2 :]}")


def check_name(name: str) -> None:
    """Raises InputError for what is no relative name of a file below a folder."""
    why = ""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # half a character
        why = "is no name of a file"
    if not name or "\0" in name:
        why = "is no name of a file"
    elif "://" in name or "::" in name:
        why = "is an address, where a relative name is wanted"
    elif name.startswith(("/", "\\")):
        why = "is an absolute path, where a relative name is wanted"
    elif ".." in name and ".." in re.split(r"[/\\]", name):
        why = "leaves the folder"
    if why:
        raise InputError(f"{shown(name)} {why}")


def check_regular(path: str | os.PathLike[str], name: str = "", mode: int | None = None) -> None:
    """Raises InputError for a pipe, a socket, a device or a folder; OSError where nothing is there.

    Args:
        path: to look at, if `mode` does not say what it is.
        name: what a message calls it.
        mode: of the file that is open.
    """
    mode = os.stat(path).st_mode if mode is None else mode
    if not stat.S_ISREG(mode):
        kind = next((kind for is_one, kind in _KINDS.items() if is_one(mode)), "something else")
        raise InputError(f"{shown(name or os.fspath(path))} is {kind}, and no regular file")


def open_regular(path: str | os.PathLike[str], name: str = "") -> int:
    """A descriptor of a regular file, to be closed; `name` is what a message calls it.

    Raises:
        InputError: it is something else, which is not opened.
        OSError: it cannot be opened.
    """
    check_regular(path, name)
    descriptor = os.open(path, _FLAGS)
    try:
        check_regular(path, name, os.fstat(descriptor).st_mode)  # another one may have come in between
    except InputError:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: str | os.PathLike[str], limit: int | None = FILE_BYTES) -> bytes:
    """A whole regular file.

    Raises:
        InputError: it is something else, or has more than `limit` bytes (None: any number).
        OSError: it cannot be read.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        return _content(file, os.fspath(path), limit)


def json_of(path: str | os.PathLike[str], limit: int = JSON_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: it is no regular file, or has more than `limit` bytes.
        ValueError: it holds no JSON, or objects nested too deeply.
        OSError: it cannot be read.
    """
    try:
        return json.loads(read_regular(path, limit))
    except RecursionError:
        raise ValueError("its objects are nested too deeply") from None


def read_json(path: str | os.PathLike[str], kind: type = dict) -> Any:
    """What a JSON file holds, an object or (`kind=list`) a list.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        content = json_of(path)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no readable JSON ({getattr(error, 'strerror', None) or error})") from error
    if not isinstance(content, kind):
        raise InputError(f"{path}: holds no JSON {'object' if kind is dict else 'list'}")
    return content


class Below:
    """The files below a folder, by the names that some file gives them.

    Args:
        folder: the root.
        also: further folders that a link may lead into.
        links: let links lead anywhere.
        limit: bytes of a file at most.
        advice: what to do about a link that leaves the folder, for the message.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        also: Sequence[str | os.PathLike[str]] = (),
        links: bool = False,
        limit: int = FILE_BYTES,
        advice: str = "",
    ) -> None:
        self.folder, self.limit, self._advice = os.path.realpath(folder), limit, advice
        every = [self.folder, *map(os.path.realpath, also)]
        self._roots = () if links else tuple(f"{root.rstrip('/')}/" for root in every)

    def path(self, name: str) -> Path:
        """The path of a name, for what opens files by their path; it need not be there.

        Raises:
            InputError: it leaves the folder, or is no regular file.
        """
        check_name(name)
        path = Path(self.folder, name)
        self._check_inside(name, os.path.realpath(path))
        if path.exists() and not path.is_dir():
            check_regular(path, name)
        return path

    def open(self, name: str) -> int:
        """A descriptor of the file of this name, to be closed.

        Raises:
            InputError: it leaves the folder, or is no regular file.
            OSError: it cannot be opened.
        """
        check_name(name)
        descriptor = open_regular(path := os.path.join(self.folder, name), name)
        try:
            self._check_inside(name, _place(descriptor, path))
        except InputError:
            os.close(descriptor)
            raise
        return descriptor

    def read(self, name: str) -> bytes:
        """The content of the file of this name; raises as `open` does, and InputError for a larger one."""
        with os.fdopen(self.open(name), "rb") as file:
            return _content(file, name, self.limit)

    def _check_inside(self, name: str, place: str) -> None:
        if self._roots and not place.startswith(self._roots):
            raise InputError(f"{shown(name)} is a link that leaves the folder{self._advice}")


def _place(descriptor: int, path: str) -> str:
    """Where the file lies that is open, whatever the path leads to by now."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # a system without /proc
        place = os.path.realpath(path)
        if not os.path.samestat(os.stat(place), os.fstat(descriptor)):
            raise InputError(f"{shown(path)} has become another file") from None
        return place


def _content(file: Any, name: str, limit: int | None) -> bytes:
    """All of a file; of one that says a wrong size no more than one byte above the limit."""
    if limit is None:
        return file.read()
    size = os.fstat(file.fileno()).st_size
    # Memory is taken for as much as is asked for: not for the limit, of every file.
    content = file.read(size + 1) if size <= limit else b""
    if len(content) > size:
        content += file.read(limit + 1 - len(content))
    if max(size, len(content)) > limit:
        raise InputError(f"{shown(name)} has more than {limit} bytes")
    return content
