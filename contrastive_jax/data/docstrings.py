"""An embedded data set: the functions of the installed Python packages, and what they say they do."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_jax.data import cache
from contrastive_jax.data.contents import Contents, of_content
from contrastive_jax.data.cores import cores
from contrastive_jax.data.functions import VERSION
from contrastive_jax.data.lines import JSONLines
from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contrastive_jax.data.records import Source

_log = logging.getLogger(__name__)
SPLITS = ("train", "held_out", "all")
HELD_OUT_SHARE = 0.15
_NOT_READ = frozenset(
    ("test", "tests", "_vendor", "_vendored", "vendor", "vendored", "extern", "externals", "third_party")
) | {"site-packages", "dist-packages", "lib2to3", "idlelib", "ensurepip", "__pycache__"}
_OWN = "contrastive-jax"  # it may be installed in any of several ways, and is no data of its own


class Docstrings:
    """A random-access source of the functions of the packages that are installed here.

    A record is ``{"docstring": first paragraph, "code": the function without it, "name",
    "qualified_name", "package", "module", "file", "line", "key", "record"}``; what counts as a function is
    said in `functions.functions`. Packages are distributions, and the modules of the standard library. They
    are held out whole, by a hash of their names. Tests and vendored copies are not read, and of functions
    with equal code or equal docstrings one is kept, the one in ``train`` if there is any.

    Source is parsed, never imported. It takes about a minute once, and is kept in the cache folder by
    package and version. Two environments hold different packages, so their sets differ.

    Args:
        split: ``train``, ``held_out`` (about 15 % of the packages) or ``all``.
        path: the split's file, where it is known already.

    Raises:
        InputError: no function is found, or the cache folder cannot be written.
    """

    def __init__(self, split: str = "train", path: str = "") -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}")
        self.name, self._split = f"docstrings:{split}", split
        try:
            self._path = path or str(_prepared() / f"{split}.jsonl")
        except OSError as error:
            raise InputError(
                f"source {self.name!r}: {error}; set CONTRASTIVE_JAX_CACHE to a folder that can be written"
            ) from error
        self._lines: Source = JSONLines(self._path)

    def __reduce__(self) -> tuple[type[Docstrings], tuple[str, str]]:
        return Docstrings, (self._split, self._path)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One function; IndexError where there is none of this number."""
        return self._lines[index]

    def column(self, name: str, rows: Sequence[int] | None = None) -> Any:
        """One field of all functions; KeyError where there is none of this name."""
        return self._lines.column(name, rows)

    def contents(self) -> list[Contents]:
        """The functions, and the versions of the packages that they are from."""
        versions = {package.name: package.version for package in packages()}
        with open(self._path, "rb") as file:
            lines = (line.rpartition(b', "file": ')[0] for line in file)  # where it is installed is no matter
            return [of_content(self.name, len(self), lines, versions)]


def held_out(package: str) -> bool:
    """Whether a package is kept from training, by a hash of its name."""
    return int(hashlib.sha256(package.encode()).hexdigest()[:8], 16) / 2**32 < HELD_OUT_SHARE


@dataclasses.dataclass(frozen=True)
class Package:
    """What is installed under a name; `files` lists (module, path of its source)."""

    name: str
    version: str
    root: str
    files: Callable[[], list[tuple[str, str]]]


def packages() -> list[Package]:
    """The distributions that are installed, and the modules of the standard library, sorted by name.

    What is installed for editing, or has no list of its files, comes without files.
    """
    found: dict[str, Package] = {}
    for distribution in importlib.metadata.distributions():
        name = str(distribution.name).lower().replace("_", "-")
        if name != _OWN:
            root, files = str(distribution.locate_file("")), functools.partial(_files_of, distribution)
            # The same name again is shadowed by the first on the path.
            found.setdefault(name, Package(name, distribution.version, root, files))
    library, version = Path(sysconfig.get_paths()["stdlib"]), sys.version.split()[0]
    for path in library.iterdir():
        name = path.name.removesuffix(".py")
        if (path.suffix == ".py" or path.is_dir()) and name not in _NOT_READ and name.isidentifier():
            files = functools.partial(_files_below, library, path)
            found.setdefault(name, Package(name, version, str(library), files))
    return [found[name] for name in sorted(found)]


def _files_of(distribution: importlib.metadata.Distribution) -> list[tuple[str, str]]:
    names = sorted(file.as_posix() for file in distribution.files or [] if file.suffix == ".py")
    return [(_module(name), str(distribution.locate_file(name))) for name in names if _is_read(name)]


def _files_below(library: Path, path: Path) -> list[tuple[str, str]]:
    paths = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    names = [(file.relative_to(library).as_posix(), str(file)) for file in paths]
    return [(_module(name), file) for name, file in names if _is_read(name)]


def _is_read(path: str) -> bool:
    *folders, name = path.split("/")
    if path.startswith(("/", "..")) or name.startswith(("test_", "conftest")) or name.endswith("_test.py"):
        return False
    return not _NOT_READ & set(folders)


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _prepared() -> Path:
    """The folder with a file for each split, made where it is not there."""
    folder, outputs = cache.folder() / "docstrings", {}
    for package in packages():
        place = f"{VERSION} {sys.version_info[:2]} {package.version} {package.root}"
        digest = hashlib.sha256(place.encode("utf-8", "replace")).hexdigest()[:16]
        outputs[package] = folder / "packages" / f"{package.name}-{digest}.jsonl"
    names = "\n".join(map(str, outputs.values()))
    prepared = folder / hashlib.sha256(names.encode()).hexdigest()[:16]
    if not (prepared / f"{SPLITS[-1]}.jsonl").exists():  # it is written last
        (folder / "packages").mkdir(parents=True, exist_ok=True)
        _extract({package: output for package, output in outputs.items() if not output.exists()})
        _split(outputs, prepared)
    return prepared


def _extract(outputs: dict[Package, Path]) -> None:
    """Reads packages in as many processes as there are cores."""
    jobs = [
        {"package": package.name, "output": str(output), "files": package.files()}
        for package, output in outputs.items()
    ]
    if not jobs:
        return
    count = sum(len(job["files"]) for job in jobs)
    _log.warning("reading %d source files of %d installed packages for their docstrings", count, len(jobs))
    jobs.sort(key=lambda job: -len(job["files"]))
    children = min(cores(), 16)
    shares = [share for number in range(children) if (share := jobs[number::children])]
    command = [sys.executable, "-W", "ignore", "-m", "contrastive_jax.data.functions"]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in shares]
    try:
        for child, share in zip(children, shares):
            child.stdin.write(json.dumps(share).encode())
            child.stdin.close()
        codes = [child.wait() for child in children]
    finally:
        for child in children:
            child.kill()
    if any(codes):
        raise OSError(f"reading the installed packages failed (exit codes {codes})")


def _split(outputs: dict[Package, Path], folder: Path) -> None:
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    seen: set[bytes] = set()
    for package in sorted(outputs, key=lambda package: (held_out(package.name), package.name)):
        split = "held_out" if held_out(package.name) else "train"
        for line in outputs[package].read_text(encoding="utf-8").splitlines(keepends=True):
            function = json.loads(line)
            marks = {_digest(function["docstring"].lower()), _digest("".join(function["code"].split()))}
            if not marks & seen:
                lines[split].append(line)
                lines["all"].append(line)
            seen |= marks
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        cache.replace(folder / f"{split}.jsonl", "".join(lines[split]).encode())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
