"""Compiles a loss and its gradients for a TPU slice that is not there; prints what a chip must hold.

python pod.py SLICE BATCH DIMENSION scan|pallas; needs libtpu, which takes over signals: a process of its own.
"""

import json
import os
import sys

os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu", "TPU_LOG_DIR": "disabled"}

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from contrastive_jax import softmax_contrastive


def memory(name: str, batch: int, dimension: int, backend: str) -> dict[str, int]:
    """Bytes a chip of softmax contrastive, value and three gradients, bfloat16, over all chips of a slice."""
    devices = topologies.get_topology_desc(topology_name=name, platform="tpu").devices
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    sharded, alike = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    z = jax.ShapeDtypeStruct((batch, dimension), jnp.bfloat16, sharding=sharded)
    scale = jax.ShapeDtypeStruct((), jnp.float32, sharding=alike)

    def loss(rows, columns, scale):
        return softmax_contrastive(
            rows, columns, scale=scale, engine={"mesh": mesh, "backend": backend}
        ).value

    step = jax.jit(jax.value_and_grad(loss, (0, 1, 2)), out_shardings=(alike, (sharded, sharded, alike)))
    with jax.set_mesh(mesh):  # so that blocks, kernels and the cost model are a TPU's
        lowered = step.lower(z, z, scale)
    found = lowered.compile().memory_analysis()
    names = "argument", "output", "temp", "alias"
    sizes = {name: getattr(found, f"{name}_size_in_bytes") for name in names}
    total = sum(sizes.values()) - 2 * sizes["alias"]
    return {"chips": len(devices), **sizes, "total": total}


if __name__ == "__main__":
    print(json.dumps(memory(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
