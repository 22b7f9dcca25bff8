"""Every test sees 8 virtual CPU devices, set up here before JAX starts its backend."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of small real data sets, or a skip that says where it was looked for."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("CONTRASTIVE_JAX_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder} (set CONTRASTIVE_JAX_DATA)")
    return folder
