"""What is planned is what is run: the same programs, on arrays of the same shapes in the same places."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding

from contrastive_jax.benchmarks.batches import made_up_batch
from contrastive_jax.configuration import build, load
from contrastive_jax.distributed.mesh import by_example
from contrastive_jax.planning.compilation import compiled
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.programs import device_bytes, programs

EVERY_AXIS = dict(data=2, fsdp=2, tensor=2)


def experiment(mesh, **overrides):
    keys = {**{f"mesh.{axis}": size for axis, size in mesh.items()}, **overrides}
    pairs = [(key, str(value)) for key, value in keys.items()]
    return Experiment(build(load("configs/glyphs.py:small", pairs, Config), Config), jax.devices())


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def shard_bytes(arrays, device):
    """Bytes that arrays really have on a device."""
    total = 0
    for x in jax.tree.leaves(arrays):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.random.key_data(x)
        total += sum(shard.data.nbytes for shard in x.addressable_shards if shard.device == device)
    return total


def test_argument_bytes_are_those_of_the_placed_shards():
    run = experiment(EVERY_AXIS)
    (program,) = programs(run)
    planned = compiled(program, run.mesh)
    with jax.set_mesh(run.mesh):
        placed = run.initial_state(), jax.device_put(made_up_batch(run), by_example(run.mesh))
    for device in run.mesh.devices.flat:
        assert shard_bytes(placed, device) == planned["argument_bytes"] == device_bytes(program.arguments)
    total = planned["argument_bytes"] + planned["output_bytes"] - planned["alias_bytes"]
    assert planned["total_bytes"] == total + planned["temp_bytes"]
    assert planned["alias_bytes"] == device_bytes(program.arguments[0])  # the state, which is donated
    assert planned["resident_bytes"] == device_bytes(program.arguments[1])  # the next batch


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [EVERY_AXIS, dict(data=8)], ids=str)
def test_a_step_out_of_core_calls_the_planned_programs_and_holds_what_is_planned(mesh, monkeypatch):
    run = experiment(mesh, mode="out_of_core", batch_size=128, microbatch=2)
    step, planned = run.out_of_core_step, {program.name: program for program in programs(run)}
    device, calls, piece = run.mesh.devices.flat[0], [], device_bytes(planned["embed"].arguments[2])
    held = _held(device)

    def spied(name, function):
        def call(*arguments):
            live = _held(device) - held
            calls.append(name)
            assert jax.tree.map(_like, arguments) == jax.tree.map(_like, planned[name].arguments)
            expected = device_bytes(planned[name].live)
            assert expected - piece - 64 <= live <= expected + 64  # one piece ahead or not; keys and counters
            return function(*arguments)

        return call

    for name in planned:
        monkeypatch.setattr(step, name, spied(name, getattr(step, name)))
    with jax.set_mesh(run.mesh):
        step(run.initial_state(), _pieces(run), jax.block_until_ready)
    assert {name: calls.count(name) for name in planned} == {n: p.runs for n, p in planned.items()}


def _held(device):
    """Bytes of all arrays on a device."""
    plain = [x for x in jax.live_arrays() if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(device_bytes(x) for x in plain if device in x.sharding.device_set)


def _like(x):
    """Shape, dtype and place; numbers from the host lie everywhere."""
    sharding = getattr(x, "sharding", None)
    spec = sharding.spec if isinstance(sharding, NamedSharding) else ()
    return x.shape, str(x.dtype), tuple(spec)


def _pieces(run):
    batch = made_up_batch(run)
    for _ in range(2):
        for rows in run.cut.rows():
            yield {**jax.tree.map(lambda x, rows=rows: x[rows], batch), "broken": np.int32(0)}
