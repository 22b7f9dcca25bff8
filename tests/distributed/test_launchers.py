"""Who started this process, from environments as launchers leave them."""

import sys

import pytest

from contrastive_jax.distributed import joining
from contrastive_jax.distributed.joining import Limits, Place, join
from contrastive_jax.distributed.launchers import several_processes
from contrastive_jax.distributed.processes import ALONE
from contrastive_jax.errors import CommandError, InputError

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911", "OMPI_COMM_WORLD_SIZE": "2"}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({}, None),
        (SLURM, "SLURM"),
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        ({name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"}, None),
        (OPEN_MPI, "Open MPI"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        (KUBERNETES, "Kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),  # a notebook, say
    ],
)
def test_the_launcher_is_known_by_what_it_leaves(environment, launcher):
    assert several_processes({"JAX_PLATFORMS": "cpu", **environment}) == launcher


def test_without_one_a_process_is_alone():
    with join() as group:
        assert group is ALONE
        assert group.first
        assert group.gather({"a": 1}) == [{"a": 1}]
        assert group.tell("x") == "x"
    with join(Place("127.0.0.1:1", 1, 0)) as group:
        assert group is ALONE


def test_kubernetes_needs_its_package(monkeypatch):
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(InputError, match=r"pip install 'contrastive-jax\[kubernetes\]'"), join():
        pass


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("nohost", 2, 0), "--coordinator nohost: give host:port"),
        (("host:0", 2, 0), "--coordinator host:0: give host:port"),
        (("host:99999", 2, 0), "--coordinator host:99999: give host:port"),
        (("host:1234", 2, 2), r"--process-id 2: give 0 to 1 \(--processes 2\)"),
    ],
)
def test_places_that_cannot_be(place, message):
    with pytest.raises(InputError, match=message):
        Place(*place)


def test_limits_that_cannot_be():
    with pytest.raises(InputError, match="lost_seconds=1: give 5 or more"):
        Limits(lost_seconds=1)
    with pytest.raises(InputError, match="stalled_seconds=0: give 5 or more"):
        Limits(stalled_seconds=0)


def test_the_place_that_a_launcher_gives(monkeypatch):
    """As JAX reads it: the n-th rank of a host has the n-th device."""
    variables = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911", "OMPI_COMM_WORLD_SIZE": "2"}
    variables |= {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "JAX_PLATFORMS": "cpu"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    place = joining._found("Open MPI", 5)
    assert place.host == "10.96.0.1"
    assert (place.count, place.index, place.devices) == (2, 1, (1,))
    assert str(place) == f"the coordinator 10.96.0.1:{place.port}, as Open MPI has it"


def test_a_launcher_that_does_not_say_the_place(monkeypatch):
    """Its API may not answer: starting again may help."""
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OMPI_COMM_WORLD_RANK", raising=False)
    with pytest.raises(CommandError, match="Open MPI does not say the place of this process"):
        joining._found("Open MPI", 5)
