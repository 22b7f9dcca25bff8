"""Any source as a folder of ArrayRecord shards, made by parallel processes; a kill costs unfinished ones."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from contrastive_jax.data.arrayrecord import MANIFEST
from contrastive_jax.data.contents import difference, from_json
from contrastive_jax.data.shards import (
    Plan,
    summary,
    summary_path,
    write_shard,
)
from contrastive_jax.data.workers import Lifeline, signals_blocked, start_worker
from contrastive_jax.errors import CommandError, InputError, kind_of
from contrastive_jax.locking import locked, partial_path, write_atomically
from contrastive_jax.named_files import FILE_BYTES, json_of

FORMAT = 1
RECORDS_A_SHARD, MOST_SHARDS = 8192, 4096
_SECONDS_BETWEEN_LOOKS = 0.1


def choose_shards(records: int) -> int:
    """The number of shards where none is given: one for every 8192 records, 4096 at most."""
    return max(1, min(-(-records // RECORDS_A_SHARD), MOST_SHARDS, records))


@contextlib.contextmanager
def opened_folder(folder: Path, plan: Plan) -> Iterator[None]:
    """The folder of a plan, made or found, and held against other processes; its manifest says the plan.

    Raises:
        InputError: it cannot be written, or holds something else.
        CommandError: it is in use, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locked(folder / ".lock", f"--output {folder}")
    except OSError as error:
        raise kind_of(error)(f"--output {folder} cannot be used ({error.strerror or error})") from error
    with lock:
        _settle(folder, plan)
        yield


def manifest(folder: str | Path) -> dict[str, Any] | None:
    """The manifest of a folder of shards: {"format", "plan", "shards": summaries, or None until all are
    there}; None where there is none.

    Raises:
        InputError: it cannot be read, or is of a newer version.
    """
    file = Path(folder) / MANIFEST
    try:
        found = json_of(file, FILE_BYTES)
        known, _ = found["plan"], found["shards"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--output {folder}: {MANIFEST} cannot be read ({error})") from error
    if found.get("format") != FORMAT or not isinstance(known, dict):
        raise InputError(
            f"--output {folder}: {MANIFEST} is not of format {FORMAT}, which this version writes"
        )
    return found


def _settle(folder: Path, plan: Plan) -> None:
    there = manifest(folder)
    if there is None:
        others = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
        if others:
            raise InputError(
                f"--output {folder} holds other files ({min(others)}, ...): give a new or empty folder"
            )
        _write_manifest(folder, plan, None)
        return
    here, known = plan.as_json(), there["plan"]
    data = [from_json(plan.pop("data", ())) for plan in (here, known)]
    differing = [f"{k}: {here[k]} here, {known.get(k)} there" for k in here if here[k] != known.get(k)]
    if not differing and all(data) and (words := difference(*data, "here", "there")):
        differing = [words]
    if differing:
        raise InputError(
            f"--output {folder} holds other shards ({'; '.join(differing)}): "
            "give the same values or another folder"
        )


def remaining(folder: Path, plan: Plan) -> list[int]:
    """The shards that are not there yet."""
    done = (manifest(folder) or {}).get("shards")
    if done is not None:
        sizes = {found["file"]: found["bytes"] for found in done}
        return [n for n in range(plan.shards) if _size(folder / plan.name(n)) != sizes.get(plan.name(n))]
    return [n for n in range(plan.shards) if summary(plan, folder, n) is None]


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def finish(folder: Path, plan: Plan) -> list[dict[str, Any]]:
    """Puts the summaries of all shards into the manifest; the summaries.

    Raises:
        CommandError: a shard is not there, or the disk is full.
    """
    done = (manifest(folder) or {}).get("shards")
    known = {found["file"]: found for found in done or ()}
    found = [summary(plan, folder, n) or known.get(plan.name(n)) for n in range(plan.shards)]
    if None in found:
        missing = plan.name(found.index(None))
        raise CommandError(f"{folder}: {missing} is not there; do all workers write into the same folder?")
    if found != done:
        _write_manifest(folder, plan, found)
    for n in range(plan.shards):
        summary_path(folder / plan.name(n)).unlink(missing_ok=True)
    return found


def _write_manifest(folder: Path, plan: Plan, shards: list[dict[str, Any]] | None) -> None:
    content = {"format": FORMAT, "plan": plan.as_json(), "shards": shards}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    with _going_on_later(folder):
        write_atomically(folder / MANIFEST, text.encode("utf-8", "surrogatepass"))


@contextlib.contextmanager
def _going_on_later(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(
            f"{folder}: {error.strerror or error}; run the same command again to go on"
        ) from error


def write_shards(
    plan: Plan,
    folder: Path,
    shards: list[int],
    workers: int,
    made: Callable[[dict[str, Any]], None] = lambda summary: None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Writes these shards, each in one of `workers` processes (0: in this one); whether all were.

    Args:
        made: called with the summary of each.
        stopped: called many times a second; once it is true the shards under way are given up.

    Raises:
        InputError: a record cannot be written.
        CommandError: the disk is full, or a worker has died; what is done stays.
    """
    write = functools.partial(write_shard, plan, str(folder))
    try:
        with _going_on_later(folder):
            if workers:
                return _in_processes(write, shards, workers, made, stopped)
            for shard in shards:
                if stopped():
                    return False
                made(write(shard))
            return True
    except BrokenProcessPool:
        raise CommandError(
            "a worker process died (is the memory full?): run the same command again with fewer --workers"
        ) from None
    finally:
        for shard in shards:  # of workers that were cut off; on a full disk it would stand in the way
            partial_path(folder / plan.name(shard)).unlink(missing_ok=True)


def _in_processes(write, shards, workers, made, stopped) -> bool:
    waiting, running = iter(shards), set()
    lifeline = Lifeline(workers)
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),  # not forked: this process may have threads by now
        initializer=start_worker,
        initargs=(lifeline.address, _nowhere, 0, workers),
    )

    def submit(most: int) -> None:
        with signals_blocked():  # it may start a process
            running.update(pool.submit(write, shard) for _, shard in zip(range(most), waiting))

    try:
        submit(workers)
        while running:
            ended, _ = wait(running, _SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
            running -= ended
            for future in ended:
                made(future.result())
            if stopped():
                return False
            submit(len(ended))
        pool.shutdown()
        return True
    finally:
        lifeline.cut(kill=True)
        pool.shutdown(cancel_futures=True)


def _nowhere() -> str:
    return ""
