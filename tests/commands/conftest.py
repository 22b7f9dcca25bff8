"""The installed command, and one short run of it for all tests here."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from refusals import GLYPHS, TINY

from contrastive_jax import cli
from contrastive_jax.data.rendering import VERSIONS


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
        return cli.main(arguments), *capfd.readouterr()

    level = logging.getLogger("contrastive_jax").level
    yield run
    logging.getLogger("contrastive_jax").setLevel(level)
