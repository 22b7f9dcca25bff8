"""A graph with everything in it: the same on every mesh, in microbatches and out of core."""

import dataclasses

import jax
import numpy as np
import pytest
from small import altered, made_up_batch, of_file, read_in_pieces

from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.embedding import staged
from contrastive_jax.training.step import encode_branches, model_of

CONFIG = "graph_config.py:mix,crops=3"


def after(run, count=3):
    """The losses of some steps, and the state after them as numpy arrays."""
    losses = []
    with jax.set_mesh(run.mesh):
        state, step = run.initial_state(), run.train_step()
        for number in range(count):
            state, metrics = step(state, made_up_batch(run, number))
            losses.append(float(metrics["loss"]))
        assert jax.tree.map(lambda x: x.sharding, state) == run.state_shardings
        return losses, jax.device_get(state._replace(key=jax.random.key_data(state.key)))


def agree(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-5)


@pytest.fixture(scope="module")
def plain():
    return after(of_file(CONFIG))


@pytest.mark.parametrize(
    ("devices", "settings"),
    [
        (8, {"mesh__fsdp": 2, "mesh__tensor": 2, "microbatch": 2}),
        (8, {}),
        (1, {"microbatch": 4}),
    ],
)
@pytest.mark.slow  # tests/methods has three methods on meshes and in microbatches
def test_meshes_and_microbatches_change_nothing(plain, devices, settings):
    """Batch statistics are of the whole batch, queues of all its embeddings, teachers follow everywhere."""
    losses, state = after(of_file(CONFIG, devices, **settings))
    np.testing.assert_allclose(losses, plain[0], rtol=2e-4)
    for part in ("teachers", "statistics", "memory"):
        agree(getattr(state, part), getattr(plain[1], part))


def test_out_of_core_is_the_same_step():
    spec = "graph_config.py:crops=2"
    whole, pieces = of_file(spec), of_file(spec, 2, mode="out_of_core", microbatch=2)
    losses, want = after(whole, 2)
    with jax.set_mesh(pieces.mesh):
        state = pieces.initial_state()
        for number, loss in enumerate(losses):
            batch = read_in_pieces(pieces, made_up_batch(pieces, number))
            state, metrics, _ = pieces.out_of_core_step(state, batch, jax.block_until_ready)
            np.testing.assert_allclose(metrics["loss"], loss, rtol=2e-4)
    for part in ("teachers", "statistics", "memory"):
        agree(getattr(state, part), getattr(want, part))


def test_evaluation_leaves_out_the_heads_of_training():
    run = of_file("graph_config.py")
    heads = {"projector": run.config.heads["projector"]}
    heads["predictor"] = dataclasses.replace(run.config.heads["predictor"], train_only=True)
    run = altered(run, heads=heads)
    with jax.set_mesh(run.mesh):
        state, batch = run.initial_state(), made_up_batch(run)
        model = model_of(state)
        encoded = run.graph.encode(model, "a", batch["views"]["a"], train=False, key=None)
        stages, changed = run.graph.stages(model, "a", encoded, train=False, key=None)
        trained, _ = run.graph.stages(model, "a", encoded, train=True, key=jax.random.key(0))
    assert not changed
    np.testing.assert_array_equal(stages["a"], stages["a.projector"])
    np.testing.assert_array_equal(trained["a"], trained["a.predictor"])
    assert not np.allclose(trained["a"], trained["a.projector"])


def test_only_the_last_heads_can_be_left_out():
    run = of_file("graph_config.py")
    first = dataclasses.replace(run.config.heads["projector"], train_only=True)
    with pytest.raises(InputError, match=r"config.heads.projector.train_only=True: only the last heads"):
        altered(run, heads={**run.config.heads, "projector": first})


def test_a_mixed_branch_sees_the_blend_and_losses_its_partners():
    run = of_file("graph_config.py:mix")
    batch = made_up_batch(run)
    key, graph = jax.random.key(4), run.graph
    partner, share = graph.mixing(key, "m", 16)
    assert sorted(partner.tolist()) == list(range(16))
    blend = share * batch["views"]["a"] + (1 - share) * batch["views"]["b"][partner]
    with jax.set_mesh(run.mesh):
        model = model_of(run.initial_state())
        got = encode_branches(graph, model, batch["views"], key, None, names=["m"])["m"]
        keys = graph.keys(key, "m", np.arange(16))
        want = graph.encode(model, "m", np.round(blend).astype(np.uint8), train=True, key=keys)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix": "nothing"}, "config.branches.m.mix: 'nothing' is unknown"),
        ({"mix": None}, "losses.mixed.*mixes nothing"),
    ],
)
def test_mixing_with_nothing_is_refused(changes, message):
    run = of_file("graph_config.py:mix")
    branches = {**run.config.branches, "m": dataclasses.replace(run.config.branches["m"], **changes)}
    with pytest.raises(InputError, match=message):
        altered(run, branches=branches)


def test_mixing_out_of_core_is_refused():
    with pytest.raises(InputError, match=r"config.branches.m.mix=b wants the views of a whole batch"):
        of_file("graph_config.py:mix", mode="out_of_core", microbatch=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"losses__ab__predictions": "nobody"}, "config.losses.ab: branch 'nobody' is unknown"),
        ({"losses__ab__targets": "a.nothing"}, "config.losses.ab: branch 'a' has no stage 'nothing'"),
        ({"losses__moco__memory": "kees"}, "config.losses.moco.memory: 'kees' is unknown; did you mean keys"),
    ],
)
def test_losses_that_name_what_is_not_there_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        of_file("graph_config.py", **settings)


def test_a_stage_can_be_cut_to_its_first_numbers():
    graph = of_file("graph_config.py").graph
    assert staged(graph, "a.encoder@4") == ("a", "a.encoder", 4)
    for name in ("a@0", "a@17", "a@x", "a@"):
        with pytest.raises(InputError, match="a has 16 numbers; write a@N"):
            staged(graph, name)
