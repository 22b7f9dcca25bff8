"""The installed command, and one short run of it for all tests here."""

import functools
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from refusals import GLYPHS, TINY
from small_run import write_run
from usearch.index import Index

from contrastive_jax import cli
from contrastive_jax.data.rendering import VERSIONS
from contrastive_jax.data.sources import open_source
from contrastive_jax.training import trained as opening


@pytest.fixture(scope="session")
def caches(tmp_path_factory):
    """Environment variables for one rendering and one quick compilation of each program."""
    folder = tmp_path_factory.mktemp("caches")
    return {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "CONTRASTIVE_JAX_CACHE": str(folder / "glyphs"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture(scope="session")
def command(caches):
    """Runs the installed command: (exit code, stdout, stderr)."""

    def run(*arguments, devices=1):
        environment = {**os.environ, **caches, "JAX_NUM_CPU_DEVICES": str(devices)}
        program = Path(sys.executable).with_name("contrastive-jax")
        done = subprocess.run(
            [program, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=120
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="session")
def first(command, caches, tmp_path_factory):
    """A short run to its end, from a damaged rendering: its folder, and what the command gave back."""
    damaged = Path(caches["CONTRASTIVE_JAX_CACHE"])
    damaged.mkdir(exist_ok=True)
    (damaged / f"glyphs-{VERSIONS}.npz").write_bytes(b"torn")
    folder = tmp_path_factory.mktemp("first") / "run"
    return folder, command("train", "--config", GLYPHS, "--workdir", folder, "--json", *TINY)


@pytest.fixture
def trained(first, tmp_path):
    """A copy of that run, to be spoilt."""
    return shutil.copytree(first[0], tmp_path / "run")


@pytest.fixture
def in_process(capfd, caches, monkeypatch):
    """The command's `main` in this process, which has 8 devices from here on."""
    assert len(jax.devices()) == 8
    for name, value in caches.items():
        if name.startswith("CONTRASTIVE"):
            monkeypatch.setenv(name, value)

    def run(*arguments):
        real = os.dup(1)  # a command leaves descriptor 1 leading to standard error
        try:
            code = cli.main(arguments)
        finally:
            os.dup2(real, 1)
            os.close(real)
        return code, *capfd.readouterr()

    level = logging.getLogger("contrastive_jax").level
    yield run
    logging.getLogger("contrastive_jax").setLevel(level)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The folder of a small run that no test may change: `run`, `pairs.jsonl`, `pictures`."""
    return write_run(tmp_path_factory.mktemp("small")).parent


@pytest.fixture(scope="session")
def opened_once():
    """Opening a run traces its model for seconds; here each is opened once, and is what it would be again."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open_experiment", "restore"):
            patch.setattr(opening, name, functools.lru_cache(getattr(opening, name)))
        yield


@pytest.fixture(scope="session")
def embedded(small, opened_once):
    """{branch: float32 [40, 16]} of the small run's own records."""
    trained, source = opening.open_trained(small / "run"), open_source(f"jsonl:{small}/pairs.jsonl")
    with jax.set_mesh(trained.experiment.mesh):
        embed = trained.embedder(8)
        return {branch: embed(branch, source) for branch in ("image", "text", "document")}


@pytest.fixture
def line(small):
    """A line of `search`, but for what is asked."""
    return ["search", "--workdir", f"{small}/run", "--batch", "8", "--source", f"jsonl:{small}/pairs.jsonl"]


@pytest.fixture
def index(in_process, small, tmp_path, monkeypatch):
    """Makes an embeddings file of a branch: its path. Graphs of it are alike: by several threads none is."""
    monkeypatch.setattr(Index, "add", functools.partialmethod(Index.add, threads=1))

    def make(branch, *more):
        output = str(tmp_path / f"{branch}.parquet")
        source = f"jsonl:{small}/pairs.jsonl"
        line = ["--workdir", f"{small}/run", "--source", source, "--branch", branch, "--output", output]
        code, _, err = in_process("embed", *line, "--batch", "8", *more)
        assert code == 0, err
        return output

    return make
