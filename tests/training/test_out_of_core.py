"""Out of core: the gradient of the whole batch from pieces of it; steps that can be given up halfway."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import experiment, made_up_batch, read_in_pieces

from contrastive_jax.branches import Graph
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.training import pieces as of_pieces
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.loop import Run, Stopped
from contrastive_jax.training.optimizer import decaying
from contrastive_jax.training.step import total_loss

DROPPING = {"encoders__image__dropout": 0.2, "encoders__text__drop_path": 0.2, "batch_size": 16}
KEY = 3


class Whitening:
    """A head that mixes the examples of its batch, as batch normalisation does; it stands for all such."""

    features, train_only = 32, False

    def init(self, key, example):
        return {"gain": jnp.linspace(0.5, 1.5, example.shape[-1])}

    def logical_axes(self, example):
        return {"gain": (None,)}

    def statistics(self, example):
        return {}

    def apply(self, params, x, *, train, key, statistics, turn=True):
        return (x - x.mean(0)) / (x.std(0) + 0.1) * params["gain"], {}


def mixing(run: Experiment) -> Experiment:
    """The same run with heads that mix the batch."""
    graph = run.graph
    heads = dict.fromkeys(graph.heads, Whitening())
    run.graph = Graph(graph.branches, graph.encoders, heads, graph.views)
    run.axes = {**run.graph.logical_axes(), "losses": run.axes["losses"]}
    run.optimizer = run.config.optimizer.transformation(run.config.steps, decaying(run.axes))
    return run


def in_core(run, params, batch):
    def objective(params):
        return total_loss(run.graph, run.losses, params, batch, jax.random.key(KEY), None)[0]

    with jax.set_mesh(run.mesh):
        return jax.jit(jax.value_and_grad(objective))(params)


def from_pieces(run, params, pieces):
    """((value, gradient), what was pulled back)"""
    with jax.set_mesh(run.mesh):
        params = jax.device_put(params, run.state_shardings.params)
        (value, _), own, pulled, broken = run.out_of_core_step.gradients(
            params, jax.random.key(KEY), pieces, ahead=0
        )
    assert broken == 0
    return (value, of_pieces.whole_gradient(own, pulled)), pulled


@pytest.fixture(scope="module")
def reference():
    """name -> (parameters in float64, the loss and the gradient of a batch in core on one device)."""
    found = {}

    def of(name="glyphs.py:small", change=lambda run: run):
        if (name, change) not in found:
            run = change(experiment(name, **(DROPPING if "faces" not in name else {"batch_size": 16})))
            params = jax.tree.map(lambda x: np.asarray(x, np.float64), run.initial_state().params)
            found[name, change] = params, in_core(run, params, made_up_batch(run))
        return found[name, change]

    with jax.enable_x64(True):
        yield of


def same(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)  # the towers compute in float32


@pytest.mark.parametrize(
    ("devices", "microbatch", "mesh"),
    [
        (8, 4, {"mesh__fsdp": 2, "mesh__tensor": 2}),
        pytest.param(1, 4, {}, marks=pytest.mark.slow),
        pytest.param(4, 2, {}, marks=pytest.mark.slow),
        pytest.param(8, 1, {}, marks=pytest.mark.slow),
        pytest.param(1, 16, {}, marks=pytest.mark.slow),
        pytest.param(1, 1, {}, marks=pytest.mark.slow),
        pytest.param(8, 2, {"mesh__data": 1, "mesh__fsdp": 8}, marks=pytest.mark.slow),
    ],
)
def test_the_gradient_is_that_of_the_batch_in_core(reference, devices, microbatch, mesh):
    """Dropout and drop-path on, labels and ids among the fields; any cut, any mesh."""
    params, want = reference()
    run = experiment(devices=devices, microbatch=microbatch, mode="out_of_core", **mesh, **DROPPING)
    assert run.fields == ("character", "picture")
    got, pulled = from_pieces(run, params, read_in_pieces(run, made_up_batch(run)))
    same(got, want)
    assert pulled.drift.max() < 1e-5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("glyphs.py:small", mixing, marks=pytest.mark.slow),  # test_graph.py has such heads
        pytest.param("glyphs_faces.py:small", lambda run: run, marks=pytest.mark.slow),
        pytest.param("glyphs.py:small,loss=sigmoid", lambda run: run, marks=pytest.mark.slow),
    ],
)
def test_heads_that_mix_the_batch_and_shared_towers(reference, name, change):
    """A head sees the whole batch at once, not the pieces."""
    params, want = reference(name, change)
    dropping = DROPPING if "faces" not in name else {"batch_size": 16}
    run = change(experiment(name, devices=2, microbatch=4, mode="out_of_core", **dropping))
    got, _ = from_pieces(run, params, read_in_pieces(run, made_up_batch(run)))
    same(got, want)


def test_what_a_second_reading_can_get_wrong():
    """Other examples show in `embedding_drift`; other broken records, and a stop, leave the state alone."""
    run = experiment("glyphs_faces.py:small", microbatch=4, mode="out_of_core", batch_size=8)
    one, other = (list(read_in_pieces(run, made_up_batch(run, seed), readings=1)) for seed in (0, 1))
    with jax.set_mesh(run.mesh):
        state, step = run.initial_state(), run.out_of_core_step
        with pytest.raises(OSError, match=r"read twice .* 0 broken records of piece 1, then 2"):
            step(state, iter([*one, one[0], {**one[1], "broken": 2}]), jax.block_until_ready)

        def stopping(output, seen=[]):  # noqa: B006
            seen.append(output)
            if len(seen) == 4:
                raise Stopped

        with pytest.raises(Stopped):
            step(state, iter([*one, *one]), stopping)
        state, metrics, _ = step(state, iter([*one, *one]), jax.block_until_ready)
        assert int(state.step) == 1
        assert metrics["embedding_drift"] < 1e-5
        _, metrics, _ = step(state, iter([*one, one[0], other[1]]), jax.block_until_ready)
        assert metrics["embedding_drift"] > 0.01


def test_pieces_need_no_communication_where_every_device_has_the_parameters():
    run = experiment(devices=8, microbatch=1, mode="out_of_core", batch_size=16)
    with jax.set_mesh(run.mesh):
        step, params = run.out_of_core_step, of_pieces.towers(run.state_structure.params)
        kept, pulled = step.structures(params)
        views = step._piece(next(read_in_pieces(run, made_up_batch(run)))["views"])
        given = params, pulled, kept.prints, kept.encoded, views, jax.random.key(0), np.int32(0)
        text = step.pull_back.lower(*given).compile().as_text()
    for collective in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"):
        assert collective not in text
    assert jax.tree.leaves(pulled.gradients)[0].shape[0] == 8


class StopInTheSecondStep:
    """A stop request that comes a few looks after the line of the first step."""

    def __init__(self, folder):
        self.file, self.looks = folder / "metrics.jsonl", 0

    @property
    def requested(self):
        self.looks += self.file.exists()
        return "SIGTERM" if self.looks > 3 else None


def test_a_run_has_the_losses_of_one_in_core_also_if_stopped_in_the_middle_of_a_step(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path.parent / "glyphs"))

    def parts(**more):
        dropping = {"encoders__image__dropout": 0.2, "encoders__image__drop_path": 0.2, "batch_size": 16}
        made = experiment(
            "glyphs_faces.py:small", steps=3, microbatch=4, logging__every=1, **dropping, **more
        )
        return Experiment(dataclasses.replace(made.config, evaluation=None), jax.devices()[:2])

    def lines(run, name, stop=None):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        Run(run, folder, stop or StopRequest())()
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        timed = ("pairs_per_second", "flops_per_second", "goodput", "seconds/")
        return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in rows]

    run = parts(mode="out_of_core")
    want, undisturbed = lines(parts(), "in_core"), lines(run, "undisturbed")
    assert [row["step"] for row in undisturbed] == [1, 2, 3]
    for a, b in zip(undisturbed, want, strict=True):
        assert a.pop("embedding_drift") < 1e-5
        assert a == pytest.approx(b, rel=2e-4)
    with pytest.raises(Stopped, match="SIGTERM"):
        lines(run, "stopped", StopInTheSecondStep(tmp_path / "stopped"))
    assert (tmp_path / "stopped" / "checkpoints" / "1").is_dir()
    resumed = lines(run, "stopped")
    assert [{k: v for k, v in row.items() if k != "embedding_drift"} for row in resumed] == undisturbed
