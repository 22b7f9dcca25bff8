"""Work directories of runs that were never trained, and what a run begins with."""

import jax
import numpy as np
import pytest
from small import altered

from contrastive_jax.distributed.processes import Group
from contrastive_jax.errors import InputError
from contrastive_jax.training import starting
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.starting import InitFrom
from contrastive_jax.training.structure import named_leaves
from contrastive_jax.training.workdir import write_json


def numbers(structure, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), structure)


def workdir(path, run, seed=0, steps=(7,), **config):
    """A work directory of a run, with made-up parameters in its checkpoints."""
    path.mkdir(parents=True)
    write_json(path / "config.json", {"lora": {}, "encoders": {}, **config})
    with Checkpoints(path / "checkpoints", keep=None) as checkpoints:
        for step in steps:
            params = numbers(run.state_structure.params, seed + step)
            checkpoints.save(step, {"step": np.int32(step), "params": jax.device_put(params)})
            checkpoints.wait()
    return params


def begun(run, base, **entries):
    """The parameters of a run, with those of `entries` in place of `base`."""
    run = altered(run, run.mesh.size, init_from={n: InitFrom(**e) for n, e in entries.items()})
    run.__dict__["_new_state"] = lambda key: base  # what a seed gives is tested elsewhere
    return named_leaves(run.initial_state().params)


class Base:
    """A state that is only parameters."""

    def __init__(self, run, seed=99):
        self.params = jax.device_put(numbers(run.state_structure.params, seed), run.state_shardings.params)

    def _replace(self, params, teachers=None):
        made = object.__new__(Base)
        made.params = params
        return made


class TwoProcesses(Group):
    """Process 0 of two; other: what is told of the other one's weights, None for the same as here."""

    def __init__(self, other=None):
        super().__init__(count=2)
        self.other = other

    def tell(self, value=None, seconds=0):
        return value

    def gather(self, value, seconds=0):
        differs = self.other is not None and isinstance(value, str)
        return [value, self.other if differs else value]


def check_that_processes_compare(run, entry, change):
    """They go on with the same weights, and are refused where `change`d ones are all the same in shape."""
    run = altered(run, init_from={"image": InitFrom(**entry)})
    for group in (Group(), TwoProcesses()):
        altered(run).find_starts(group)
    (start,) = starting.find(run.config.init_from, run.graph, run.state_structure.params, Group())
    before = start.origin.digest()
    change()
    (start,) = starting.find(run.config.init_from, run.graph, run.state_structure.params, Group())
    assert start.origin.digest() != before
    with pytest.raises(InputError, match=r"init_from\.image\.path=.*: process 1 finds other weights there"):
        altered(run).find_starts(TwoProcesses(before))
