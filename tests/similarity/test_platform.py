"""What is chosen is chosen for the devices of the mesh, which need not be this process's."""

import jax
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from contrastive_jax.similarity.blocks import BUDGET, block_size
from contrastive_jax.similarity.platform import platform
from contrastive_jax.similarity.tiles import Dot


@pytest.mark.parametrize("name", ["tpu", "gpu", "cpu"])
def test_the_platform_and_the_blocks_are_the_meshs(name):
    mesh = AbstractMesh((4,), ("data",), abstract_device=AbstractDevice(name, 1, name))
    z = {"embedding": jax.ShapeDtypeStruct((2**14, 8), "float32")}
    with jax.sharding.use_abstract_mesh(mesh):
        assert platform() == name
        rows, columns = block_size(Dot(lambda dots, *_: dots), z, z, {}, (2**14, 2**14))
    assert BUDGET[name] / 4 <= 4 * rows * columns <= BUDGET[name]


def test_without_a_mesh_it_is_this_processs():
    assert platform() == jax.default_backend()
