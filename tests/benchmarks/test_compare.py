"""The whole measurement, small: its fields, what the engine chose, and peers that are wrong or fail."""

import math

import jax
import numpy as np
import pytest

from contrastive_jax.benchmarks import peers
from contrastive_jax.benchmarks.compare import measure
from contrastive_jax.benchmarks.peers import PEERS, Peer
from contrastive_jax.benchmarks.problem import Problem
from contrastive_jax.benchmarks.programs import Program, chosen, matmul, ours
from contrastive_jax.distributed.mesh import MeshShape
from contrastive_jax.errors import InputError
from contrastive_jax.similarity import call

FIELDS = {
    *("seconds", "flops", "fraction_of_matmul", "temp_bytes", "block", "backend", "communication"),
    *("gradient_error", "against"),
}


def mesh(*sizes):
    return MeshShape(*sizes).make(jax.devices()[: math.prod(sizes)])


def one_way(problem):
    """A peer with a mistake: the columns against the rows are left out."""
    return lambda q, k, scale: -jax.numpy.diag(jax.nn.log_softmax(scale * q @ k.T)).mean()


def test_fields_and_a_wrong_peer(monkeypatch):
    monkeypatch.setitem(PEERS, "one_way", Peer(("softmax",), "jax", "jax", one_way, note="wrong"))
    problem = Problem(50, 16)
    found = measure(problem, mesh(1), engine={"keep": 0, "block": 32}, against=("dense", "one_way"))
    assert set(found) >= FIELDS
    assert (found["block"], found["keep"], found["collective_bytes"]) == ([32, 32], False, {})
    assert found["flops_basis"] == "8 B^2 d"
    assert found["flops"] * found["seconds"] == pytest.approx(8 * 50**2 * 16)
    assert found["flops"] / found["matmul_flops"] == pytest.approx(found["fraction_of_matmul"])
    assert found["gradient_error"] < 1e-5
    assert found["gradient_error_batch"] == 50
    for figures in found["against"].values():
        assert set(figures) >= {"seconds", "ratio", "temp_bytes", "gradient_error"}
        assert figures["ratio"] == found["seconds"] / figures["seconds"]
    assert found["against"]["dense"]["gradient_error"] < 1e-5
    assert found["against"]["one_way"]["gradient_error"] > 0.05
    assert found["against"]["one_way"]["note"] == "wrong"


def test_a_ragged_batch_on_a_mesh_in_bfloat16():
    problem = Problem(42, 16, "sigmoid", "bfloat16")
    found = measure(problem, mesh(2, 2), engine={"communication": "gather"}, against=("dense",))
    assert found["flops_basis"] == "6 B^2 d"
    assert (found["communication"], found["keep"]) == ("gather", False)
    assert found["collective_bytes"]["all-gather"] > 0
    for errors in (found, found["against"]["dense"]):
        assert 1e-5 < errors["gradient_error"] < 6e-3
        assert max(errors["scale_gradient_error"], errors["bias_gradient_error"]) < 1e-2


@pytest.mark.parametrize("engine", [{}, {"keep": 0, "communication": "gather", "block": (8, 16)}])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_what_is_said_to_be_chosen_is_what_the_loss_chooses(monkeypatch, loss, engine):
    plans, choose = [], call.choose
    monkeypatch.setattr(call, "choose", lambda *a: plans.append(choose(*a)) or plans[-1])
    problem, on = Problem(64, 8, loss), mesh(2, 2)
    said = chosen(problem, on, engine)
    structures = [jax.ShapeDtypeStruct((64, 8), np.float32)] * 2
    jax.eval_shape(ours(problem, on, engine), *structures, *map(np.float32, problem.scalars))
    first, used = plans[0], plans[-1]
    assert len(plans) >= 2
    assert first == used
    assert said["block"] == list(used.block)
    assert said["communication"] == used.communication
    assert said["keep"] == used.keeps


def test_the_smaller_batch_of_the_errors_is_computed_like_the_larger_one(monkeypatch):
    monkeypatch.setattr("contrastive_jax.benchmarks.compare._REFERENCE_BATCH", 24)
    seen = []
    monkeypatch.setattr(
        "contrastive_jax.benchmarks.compare.ours",
        lambda problem, mesh, engine: (
            seen.append((problem.batch, dict(engine))) or ours(problem, mesh, engine)
        ),
    )
    found = measure(Problem(100, 8), mesh(1), engine={"keep": 4 * 100 * 99})
    assert found["gradient_error_batch"] == 24
    assert (found["keep"], seen[1][0], seen[1][1]["keep"]) == (False, 24, 0)
    assert seen[1][1]["block"] == tuple(found["block"])


def test_a_peer_that_needs_more_memory_than_there_is(monkeypatch):
    monkeypatch.setattr(peers, "free_bytes", lambda device: 1000)
    dense = measure(Problem(64, 8), mesh(1), engine={}, against=("dense",))["against"]["dense"]
    assert (dense["seconds"], dense["ratio"]) == (None, None)
    assert "GiB of temporaries" in dense["error"]


def test_another_loss_is_put_beside_itself():
    optax = measure(Problem(8, 4), mesh(1), engine={}, against=("optax",))["against"]["optax"]
    assert optax["gradient_error"] < 1e-5
    assert "another loss" in optax["note"]


def test_the_matmul_is_as_long_as_the_loss():
    problem = Problem(300, 64)
    run, flops = matmul(problem, mesh(2, 2))
    assert flops == 2 * 256**3 * 4
    assert run().shape == (4 * 256, 256)
    assert matmul(Problem(2**20, 64), mesh(1))[1] == 16 * 2 * 2048**3


def test_gradients_of_a_program():
    problem = Problem(30, 8, "sigmoid")
    found = Program(ours(problem, mesh(1), {}), problem, mesh(1)).gradients()
    assert found.rows.shape == found.columns.shape == (30, 8)
    assert (found.rows.dtype, np.ndim(found.scale), np.ndim(found.bias)) == (np.float32, 0, 0)


@pytest.mark.parametrize(
    ("names", "loss", "platform", "words"),
    [
        (["dens"], "softmax", "cpu", ["--against dens: unknown; did you mean dense?"]),
        ([""], "softmax", "cpu", ["unknown"]),
        (["optax"], "sigmoid", "cpu", ["--against optax: it has no sigmoid loss"]),
        (["siglip_kernel"], "sigmoid", "cpu", ["--against siglip_kernel: needs a GPU"]),
        (
            ["dense", "inf_cl", "open_clip"],
            "softmax",
            "gpu",
            ["--against inf_cl,open_clip: not installed", "pip install torch inf_cl open_clip_torch"],
        ),
    ],
)
def test_peers_that_cannot_be_had(monkeypatch, names, loss, platform, words):
    monkeypatch.setattr(peers, "missing_modules", lambda python, modules: set(modules))
    with pytest.raises(InputError) as caught:
        peers.choose(names, loss, platform)
    for word in words:
        assert word in str(caught.value)


def test_a_peer_python_that_does_not_run(tmp_path):
    with pytest.raises(InputError, match="--peer-python /nowhere/python: does not run as a Python"):
        peers.choose(["open_clip"], "softmax", "cpu", "/nowhere/python")
    file = tmp_path / "python"
    file.write_text("#!/bin/sh\nexit 3\n")
    file.chmod(0o755)
    with pytest.raises(InputError, match="does not run as a Python: it ends with code 3"):
        peers.choose(["open_clip"], "softmax", "cpu", str(file))
