"""Runs commands in forks of a process that has imported everything, and judges how they end.

The rule: exit code 0, 1 or 2 (75: stopped); a refusal is one line; no traceback; under 2 GiB; in its time.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

MOST_BYTES, SECONDS = 2 << 30, 60.0
MODULES = ("cli", "commands.data", "commands.search", "commands.train", "commands.export", "training.loop")
MODULES += ("evaluation", "interop", "data.sources", "training.trained", "evaluation.stored_search")


class Ended(NamedTuple):
    """code: negative for a signal; killed: why the judge ended it, '' where it ended by itself."""

    code: int
    out: str
    err: str
    killed: str


def prepare() -> None:
    """Imports, but starts no device: what has threads cannot be forked."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for name in MODULES:
        importlib.import_module(f"contrastive_jax.{name}")
    importlib.import_module("pyarrow.parquet")


def run(
    call: Callable[[], int], folder: str | None = None, seconds: float = SECONDS, most: int = MOST_BYTES
) -> Ended:
    """What comes of a call in a fork of this process; folder: where it stands, for a damaged command line may
    write anywhere below."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            os.chdir(folder or ".")
            _child(call, out.fileno(), err.fileno())
        status, killed = _watched(pid, time.monotonic() + seconds, most)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
        return Ended(os.waitstatus_to_exitcode(status), *texts, killed)


def command(*arguments: str, folder: str) -> Ended:
    """What comes of a command line in a folder."""

    def call() -> int:
        from contrastive_jax import cli

        return cli.main(arguments)

    return run(call, folder)


def verdict(ended: Ended) -> str:
    """What is wrong with how a command ended; '' where nothing is."""
    if ended.killed:
        return ended.killed
    if ended.code < 0:
        return f"killed by {signal.Signals(-ended.code).name}"
    if "Traceback (most recent call last)" in ended.err:
        return f"traceback: {_innermost(ended.err)}"
    if ended.code not in (0, 1, 2, 75):
        return f"exit code {ended.code}"
    told = [line for line in ended.err.splitlines() if line.startswith("contrastive-jax: ")]
    if len(told) != (ended.code in (1, 2)):
        return f"exit code {ended.code} with {len(told)} lines of refusal"
    if told and len(told[0]) > 2000:
        return "a refusal of more than 2000 characters"
    return ""


def _innermost(err: str) -> str:
    """The last place of ours in a traceback, and the error: what tells one fault from another."""
    lines = err.splitlines()
    places = [line.strip() for line in lines if line.startswith('  File "') and "contrastive_jax/" in line]
    place = places[-1].split("contrastive_jax/")[-1].replace('", line ', ":") if places else "?"
    last = [line for line in lines if line and not line.startswith((" ", "contrastive-jax: "))]
    return f"{place}: {last[-1][:120] if last else ''}"


def _child(call: Callable[[], int], out: int, err: int) -> None:
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (
            os.fdopen(fd, "w", errors="backslashreplace", closefd=False) for fd in (1, 2)
        )
        try:
            code = call()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError):
                stream.flush()
    finally:
        os._exit(code)


def _watched(pid: int, until: float, most: int) -> tuple[int, str]:
    killed = ""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, killed
        if not killed:
            killed = "it took too long" if time.monotonic() > until else ""
            if _resident(pid) > most:
                killed = f"it took more than {most >> 20} MiB"
            if killed:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def weights(folder: str, parts: Sequence[str] = ("image", "text")) -> int:
    """Reads a folder of weights as `init_from` does, without a model around them."""
    from contrastive_jax import interop
    from contrastive_jax.errors import InputError

    try:
        opened = interop.read(folder)
        for part in parts:
            interop.architecture(opened, part)
        interop.scale(opened)
    except InputError as error:
        print("contrastive-jax:", *str(error).splitlines(), file=sys.stderr)
        return 2
    return 0
