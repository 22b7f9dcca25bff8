"""The work directory: one run's folder, held by one process, with the config that made it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self

from contrastive_jax.data.sources import moved
from contrastive_jax.errors import CommandError, InputError, kind_of
from contrastive_jax.locking import locked
from contrastive_jax.training import unbegun
from contrastive_jax.training.differences import asked, differences, flatten, free
from contrastive_jax.training.stored_json import FIGURES, parsed
from contrastive_jax.training.stores.lock import StoreLock
from contrastive_jax.training.stores.paths import StorePath, content, place
from contrastive_jax.written import encodable

log = logging.getLogger(__name__)

DATA = "data.json"
"""The file that says what the data of a run are made of."""


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable (POSIX wants this apart from the files' contents)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path | StorePath, content: bytes) -> None:
    """Writes `content` to `path` so that, whenever the process dies, the old or the new is there, whole."""
    if isinstance(path, StorePath):
        path.write_bytes(content)
        return
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_json(path: str | os.PathLike[str] | StorePath, obj: Any) -> None:
    """Writes `obj` as sorted, indented JSON, atomically; NaN and infinities are a ValueError."""
    text = json.dumps(obj, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    replace_file(place(path), encodable(text + "\n").encode())


def read_data(path: Path | StorePath) -> dict[str, Any] | None:
    """The content of the work directory's `data.json`; None where there is none.

    Raises:
      InputError: it is there and cannot be read.
    """
    return _read_json(path / DATA, "delete it to go on with the data as they are now")


def finished(path: str | os.PathLike[str] | StorePath) -> dict[str, Any] | None:
    """The content of `result.json` in the work directory `path`: None until its run has ended.

    Raises:
      InputError: `result.json` is there and cannot be read.
    """
    return _read_json(
        place(path) / "result.json", "delete it and run the same command again", FIGURES, flat=True
    )


def stored_config(path: str | os.PathLike[str] | StorePath) -> dict[str, Any]:
    """The config in the work directory `path`; empty where `open_workdir` finds none, or refuses it."""
    with contextlib.suppress(InputError):
        return _read_json(place(path) / "config.json", "") or {}
    return {}


def stored_steps(path: str | os.PathLike[str] | StorePath) -> int | None:
    """The steps that the run in the work directory `path` is to have so far; None where there is none.

    Raises:
      InputError: `config.json` is there and cannot be read.
    """
    stored = _read_json(place(path) / "config.json", "put the run's own back or give another --workdir")
    steps = (stored or {}).get("steps")
    return steps if isinstance(steps, int) else None


class WorkDirectory:
    """An open work directory; made by `open_workdir`, and locked until `close` or the process's death."""

    def __init__(self, path: Path | StorePath, lock: IO[bytes] | StoreLock) -> None:
        self.path = path
        self._lock = lock

    def close(self) -> None:
        """Lets another process have the folder."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_workdir(
    path: str | os.PathLike[str] | StorePath,
    config: dict[str, Any],
    extend: bool = False,
    completed: Callable[[dict[str, Any]], dict[str, Any]] = lambda stored: stored,
    unchanged: Callable[[], None] = lambda: None,
) -> WorkDirectory:
    """Opens the work directory of a run for training, making it when it is not there.

    A new one gets `config.json`. One that exists must hold the same config, apart from what may
    differ between a run and its continuation (`FREE_KEYS`: noted in the log) and from `steps`, which
    may grow with `extend`, and from where the same data lie; then `config.json` is brought up to date, and
    a `result.json` that stood for fewer steps, or for another evaluation, is removed. One without a step is
    as good as new: what a failed start has left in it is removed where the config or the data are others.

    Args:
      path: the folder.
      config: the resolved config, nested dicts of JSON values.
      extend: whether `steps` may be larger than in the folder.
      completed: gives the folder's config, which an earlier version may have written, the keys that have
        come since, at their defaults.
      unchanged: called before a run that has begun and not ended goes on; what it raises leaves the folder
        as it is.

    Raises:
      InputError: the folder cannot be written, belongs to something else, has a damaged `config.json`, or
        holds another config (each differing key is named).
      CommandError: another process uses it and does not leave, or the file system or store does not answer.
    """
    path = place(path)
    config = json.loads(json.dumps(config))
    try:
        path.mkdir(parents=True, exist_ok=True)
        ours = {"config.json", ".config.json.partial", ".lock"}
        names = {entry.name for entry in path.iterdir()}
        if "config.json" not in names and names - ours:
            raise InputError(
                f"--workdir {path} holds other files ({min(names - ours)}, ...) and no config.json: "
                "give a new or empty folder"
            )
        lock = _lock(path)
        try:
            _settle(path, config, extend, completed, unchanged)
        except BaseException:
            lock.close()
            raise
    except OSError as error:
        raise _unusable(path, error) from error
    return WorkDirectory(path, lock)


def begun(path: Path | StorePath) -> bool:
    """Whether there is a run in a folder that has got anywhere; InputError where it cannot be looked into."""
    try:
        return unbegun.begun(path)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path | StorePath, error: OSError) -> InputError | CommandError:
    kind = kind_of(error)
    what = "folder that" if isinstance(path, Path) else "bucket that is there and"
    advice = f"give a {what} can be written" if kind is InputError else "run the same command again"
    return kind(f"--workdir {path} cannot be used: {error.strerror or error}; {advice}")


def _lock(path: Path | StorePath) -> IO[bytes] | StoreLock:
    if isinstance(path, StorePath):
        return StoreLock(path)
    return locked(path / ".lock", f"--workdir {path}")


def _read_json(
    file: Path | StorePath, advice: str, schema: Mapping[str, type] | None = None, flat: bool = False
) -> dict[str, Any] | None:
    try:
        found = content(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise kind_of(error)(f"{file} cannot be read ({error}): {advice}") from error
    return parsed(found, str(file), advice, schema, flat)


def _settle(
    path: Path | StorePath, config: dict[str, Any], extend: bool, completed: Callable, unchanged: Callable
) -> None:
    """Compares the config with the folder's, refuses what must not differ, and records the rest."""
    file = path / "config.json"
    stored = _read_json(file, "put the run's own config.json back or give another --workdir")
    if stored is None:
        write_json(file, config)
        return
    here, there = flatten(config), flatten(json.loads(json.dumps(completed(stored))))
    differing = differences(here, there)
    try:
        _check_differing(path, differing, here, there, extend)
        if "steps" in differing or not (path / "result.json").exists():
            unchanged()
    except InputError:
        if not unbegun.of_a_run(stored) or unbegun.begun(path):
            raise
        log.warning("%s holds no step of a run: what a failed start left is removed, it begins anew", path)
        unbegun.clear(path)
        write_json(file, config)
        return
    if asked(differing):
        _withdraw(path, [differing[key] for key in asked(differing)])
    if differing:
        log.info("%s goes on with other values: %s", path, "; ".join(differing.values()))
        write_json(file, config)


def _check_differing(
    path: Path | StorePath,
    differing: dict[str, str],
    here: dict[str, Any],
    there: dict[str, Any],
    extend: bool,
) -> None:
    may = free(differing) | {"steps"}
    if "data.source" in differing and _has_moved(path, here, there):
        may.add("data.source")
    if refused := [text for key, text in differing.items() if key not in may]:
        raise InputError(
            f"--workdir {path} holds a run with another config ({'; '.join(refused)}): use the same values, "
            "or give another folder, in which config.init_from can start from this run's weights"
        )
    if "steps" in differing:
        _check_steps(path, here.get("steps"), there.get("steps"), extend)


def _withdraw(path: Path | StorePath, differing: list[str]) -> None:
    """Removes the figures of a finished run, which answered something else than is asked now.

    To be called before the config is written: a kill in between must not leave an unfinished run as finished.
    """
    result = path / "result.json"
    if not result.exists():
        return
    if not unbegun.has_step(path):
        raise InputError(
            f"--workdir {path} has ended and has no checkpoint left to go on from ({'; '.join(differing)}): "
            "use the values that it ended with, or another folder"
        )
    result.unlink()
    if isinstance(path, Path):
        sync_folder(path)


def _has_moved(path: Path | StorePath, here: dict[str, Any], there: dict[str, Any]) -> bool:
    """Whether the data may just lie elsewhere: then what they are made of tells whether they are the same."""
    return (path / DATA).exists() and moved(here["data.source"], str(there.get("data.source")))


def _check_steps(path: Path | StorePath, here: Any, there: Any, extend: bool) -> None:
    if not isinstance(here, int) or not isinstance(there, int) or here < there:
        raise InputError(f"--workdir {path} holds a run of steps: {there}, not {here}: give {there} or more")
    if not extend:
        raise InputError(f"--workdir {path} holds a run of steps: {there}: give --extend to go on to {here}")
