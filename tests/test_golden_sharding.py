"""Where every parameter of every shipped config lies: a changed rule shows in review.

On a mesh with all three axes. `UPDATE_GOLDEN=1 pytest tests/test_golden_sharding.py` writes the files anew.
"""

import functools
import os

import jax
import pytest
from jax.sharding import PartitionSpec
from test_golden import ROOT, SPECS

from contrastive_jax.configuration import build, load
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.structure import named_leaves

MESH = {"data": 2, "fsdp": 2, "tensor": 2}


@functools.cache
def described(spec):
    """The experiment on the mesh."""
    overrides = [(f"mesh.{axis}", str(size)) for axis, size in MESH.items()]
    config = build(load(f"{ROOT}/configs/{spec}", overrides, Config), Config)
    return Experiment(config, jax.devices()[:8])


def state(spec):
    """The state's structure."""
    return described(spec).state_structure


@pytest.mark.parametrize("spec", SPECS)
def test_where_every_parameter_lies(spec):
    name = spec.replace("/", "").replace(":", "-").replace(".py", "")
    file = ROOT / "tests" / "golden" / "sharding" / f"{name}.txt"
    found = "".join(
        f"{name}  {leaf.dtype}{list(leaf.shape)}  {tuple(leaf.sharding.spec)}\n"
        for name, leaf in sorted(named_leaves(state(spec).params).items())
    )
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(found)
    assert found == file.read_text()


@pytest.mark.parametrize("spec", SPECS)
def test_moments_lie_where_their_parameters_do_and_the_rest_everywhere(spec):
    params, followers = named_leaves(state(spec).params), 0
    for path, leaf in named_leaves(state(spec)._replace(params={})).items():
        of = next((name for name in params if path.endswith(f"/{name}")), None)
        if of is None:
            assert leaf.size == 1, path
            assert leaf.sharding.spec == PartitionSpec(), path
        else:
            assert (leaf.shape, leaf.sharding) == (params[of].shape, params[of].sharding), path
            followers += 1
    assert followers == 2 * sum(map(described(spec).trainable.trains, params))
