"""The command, and one undisturbed run of it that the disturbed ones are compared with."""

import os

import pytest
from real_runs import Command


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    return Command(
        {
            **os.environ,
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_NUM_CPU_DEVICES": "1",
            "CONTRASTIVE_JAX_CACHE": str(folder / "glyphs"),
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
    )


@pytest.fixture(scope="session")
def undisturbed(command, tmp_path_factory):
    """The work directory of a run to its end."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    command.run(workdir)
    return workdir
