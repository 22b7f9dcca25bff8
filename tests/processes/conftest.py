"""Processes that a test starts and leaves to nobody."""

import os

import pytest
from fleet import Processes


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    return {
        **os.environ,
        "CONTRASTIVE_JAX_CACHE": str(folder / "glyphs"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_NUM_CPU_DEVICES": "1",
    }


@pytest.fixture
def start(environment):
    """Starts processes, and ends those that a failing test leaves."""
    started = []

    def run(*arguments, variables=None, **keywords) -> Processes:
        started.append(Processes({**environment, **(variables or {})}, *arguments, **keywords))
        return started[-1]

    yield run
    for processes in started:
        for process in processes.running:
            process.kill()
            process.wait()
