"""A PyTorch library in a child process, asked one thing at a time; `torch_peers` is the other end for
losses, `input_peers` for input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from contrastive_jax.benchmarks.problem import Problem
from contrastive_jax.benchmarks.reference import Gradients
from contrastive_jax.data.cores import cores

_PROGRAM = Path(__file__).with_name("torch_peers.py")
_FIND = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if importlib.util.find_spec(n) is None))"


class PeerError(Exception):
    """Another library could not do what was asked of it; the message says why."""


def missing_modules(python: str, modules: list[str]) -> set[str]:
    """Which top-level modules a Python lacks; OSError or CalledProcessError where it does not run."""
    done = subprocess.run([python, "-c", _FIND, *modules], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


class Process:
    """A program that answers one JSON object a line for each that it is given.

    Raises PeerError, here and from `ask`, where it fails or dies.
    """

    def __init__(self, program: Path, python: str, **environment: str):
        self._folder = tempfile.TemporaryDirectory(prefix="contrastive-jax-bench-")
        self._log = open(self.path("log"), "w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # not as a script, which would put the files beside it in the way of what the library imports
        run = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
        self._process = subprocess.Popen(
            [python, "-c", run, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **environment, "PYTHONWARNINGS": "ignore"},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        try:
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def path(self, name: str) -> str:
        """A file in a folder that goes when the process does."""
        return str(Path(self._folder.name) / name)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()
        self._folder.cleanup()

    def _last_words(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return "its process was killed, as it is when memory runs out" if code < 0 else said


class Child(Process):
    """A library that has loaded the problem's data and has run once.

    Raises PeerError, here and from every method, where it cannot be imported, fails or dies.
    """

    def __init__(self, name: str, problem: Problem, python: str = sys.executable):
        super().__init__(_PROGRAM, python, OMP_NUM_THREADS=str(cores()))
        try:
            settings = {"dtype": problem.dtype, "scale": problem.scale, "bias": problem.bias}
            data = self._save(problem)
            self.started = self.ask(
                "start", peer=name, loss=problem.loss, threads=cores(), **settings, **data
            )
        except BaseException:
            self.close()
            raise

    def run(self) -> float:
        """Seconds of the loss and its gradients."""
        return self.ask("run")["seconds"]

    def gradients(self, problem: Problem) -> Gradients:
        """Of a problem that differs in its size alone."""
        answer = self.ask("gradients", out=self.path("out.npz"), **self._save(problem))
        with np.load(self.path("out.npz")) as arrays:
            return Gradients(rows=arrays["rows"], columns=arrays["columns"], **answer)

    def _save(self, problem: Problem) -> dict[str, str]:
        files = {side: self.path(f"{side}.npy") for side in ("rows", "columns")}
        for file, embeddings in zip(files.values(), problem.embeddings()):
            np.save(file, embeddings)
        return files
