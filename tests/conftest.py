"""Every test sees 8 virtual CPU devices, set up here before JAX starts its backend."""

import contextlib
import ctypes
import gc
import logging
import os
import resource
import uuid
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the partitioner warns of every ragged test shape

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)  # tests compile much and compute little
gc.set_threshold(20_000, 20, 20)
_MUCH, _TOO_MUCH = 5 << 28, 2 << 30  # bytes of a worker: drop compiled programs, fail

# Every example of a property test compiles a program of its own: few by default, many in `make test-all`.
settings.register_profile("quick", max_examples=2, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=12, deadline=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
settings.load_profile(PROFILE)

if PROFILE == "quick" and jax.__version_info__ < (0, 11):
    # Half the time: one module a program, and the older emitters, which later versions no longer have.
    quick = "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false"
    with pytest.MonkeyPatch.context() as patch:  # XLA reads it once; commands that tests start do not
        patch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {quick}")
        jax.devices()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of small real data sets, or a skip that says where it was looked for."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("CONTRASTIVE_JAX_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder} (set CONTRASTIVE_JAX_DATA)")
    return folder


@pytest.fixture(scope="session")
def little_room():
    """Within `with little_room(n):` no file grows beyond n bytes, as on a disk that fills up."""

    @contextlib.contextmanager
    def limited(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def store_endpoint():
    """The address of a server on this machine that speaks S3, with conditional writes."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it tells every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def store(store_endpoint):
    """The environment by which anyone finds that server, and in it a bucket called `bucket`."""
    import boto3

    found = {
        "AWS_ENDPOINT_URL": store_endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
    return found


@pytest.fixture
def run_in_bucket(store, monkeypatch):
    """The address of a folder in that bucket, with nothing in it; the environment says where it is."""
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    from contrastive_jax.training.stores import paths

    paths._system.cache_clear()
    folder = paths.StorePath(f"s3://bucket/{uuid.uuid4().hex}")
    yield folder
    folder.remove_tree()


def pytest_runtest_teardown(item, nextitem):
    """Compiled programs of a file serve no other one, and would fill the worker's memory."""
    another = nextitem is None or nextitem.path != item.path
    if another or _memory("VmRSS") > _MUCH:
        jax.clear_caches()
        gc.collect()
        # glibc keeps what was freed, for a program that will ask for as much again.
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
    if nextitem is None and PROFILE == "quick":
        assert _memory("VmHWM") < _TOO_MUCH, "this worker held more memory than a small machine has for it"


def _memory(name: str) -> int:
    """Bytes that this process holds (VmRSS), or has held at most (VmHWM); 0 where it is not told."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else ()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), 0)


def pytest_collection_modifyitems(items):
    """The longest files first, so that parallel workers end together."""
    items.sort(key=lambda item: item.get_closest_marker("command") is None)
