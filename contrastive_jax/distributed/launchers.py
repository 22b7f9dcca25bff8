"""Which launcher started this process, read from what it left in the environment."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path


def several_processes(environment: Mapping[str, str] = os.environ) -> str | None:
    """The name of the launcher that started this process as one of several; None where there is none.

    Each name is one whose environment `jax.distributed.initialize` reads by itself: the address of the
    coordinator, the number of processes and the place of this one.

    - SLURM: a step of two tasks or more (`srun`); a batch script itself is no task.
    - Open MPI: two ranks or more (`mpirun`).
    - Kubernetes: a pod of an indexed Job, such as a JobSet makes.
    - TPU: a machine that holds TPU chips, also one by itself.
    """
    if "SLURM_STEP_NODELIST" in environment and _count(environment, "SLURM_NTASKS") > 1:
        return "SLURM"
    if "OMPI_MCA_orte_hnp_uri" in environment and _count(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    if _on_tpu(environment):
        return "TPU"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    return None


def _count(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    return int(text) if text.isdigit() else 0


def _on_tpu(environment: Mapping[str, str]) -> bool:
    if environment.get("JAX_PLATFORMS", "tpu").split(",")[0] not in ("", "tpu"):
        return False
    chips = any(Path("/dev").glob("accel[0-9]*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return chips and importlib.util.find_spec("libtpu") is not None
