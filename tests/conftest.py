"""Every test sees 8 virtual CPU devices, set up here before JAX starts its backend."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the partitioner warns of every ragged test shape

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)  # tests compile much and compute little

# Every example of a property test compiles a program of its own: few by default, many in `make test-all`.
settings.register_profile("quick", max_examples=2, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=12, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of small real data sets, or a skip that says where it was looked for."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("CONTRASTIVE_JAX_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder} (set CONTRASTIVE_JAX_DATA)")
    return folder


def pytest_collection_modifyitems(items):
    """The longest files first, so that parallel workers end together."""
    items.sort(key=lambda item: item.get_closest_marker("command") is None)
