"""The train step: microbatches, meshes, decay, the projection of the scale, frozen keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import experiment, made_up_batch

from contrastive_jax import softmax_contrastive
from contrastive_jax.training.optimizer import decaying
from contrastive_jax.training.step import total_loss

DROPPING = {
    "encoders__image__dropout": 0.2,
    "encoders__image__drop_path": 0.2,
    "encoders__text__dropout": 0.1,
    "encoders__text__drop_path": 0.2,
    "batch_size": 16,
}


def gradient(run, params, batch):
    def objective(params):
        return total_loss(run.graph, run.losses, params, batch, jax.random.key(3), run.config.microbatch)[0]

    with jax.set_mesh(run.mesh):
        return jax.jit(jax.value_and_grad(objective))(params)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        ("glyphs.py:small", [(4, 2, {})]),
        pytest.param(
            "glyphs.py:small,loss=sigmoid",
            [(8, 1, {"mesh__fsdp": 2, "mesh__tensor": 2})],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "glyphs.py:small", [(1, 4, {}), (1, 1, {}), (1, 8, {}), (8, 1, {})], marks=pytest.mark.slow
        ),
        pytest.param("glyphs.py:small,loss=sigmoid", [(1, 2, {}), (2, 8, {})], marks=pytest.mark.slow),
    ],
)
def test_microbatches_give_the_gradient_of_the_large_batch(config, sizes):
    """Dropout and drop-path on: an example's draws depend on nothing but its place in the global batch."""
    with jax.enable_x64(True):
        whole = experiment(config, **DROPPING)
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), whole.initial_state().params)
        want = gradient(whole, params, made_up_batch(whole))
        for devices, microbatch, mesh in sizes:
            run = experiment(config, devices, microbatch=microbatch, **mesh, **DROPPING)
            got = gradient(run, params, made_up_batch(run))
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)  # the towers compute in float32


def test_averaging_microbatch_losses_would_be_another_gradient():
    """The property above is not trivial: half a batch sees half of the negatives."""
    z = jax.random.normal(jax.random.key(0), (2, 16, 8))

    def of_halves(a, b):
        return sum(softmax_contrastive(a[i:j], b[i:j], scale=1.0).value for i, j in ((0, 8), (8, 16))) / 2

    whole = jax.grad(lambda a, b: softmax_contrastive(a, b, scale=1.0).value)(*z)
    assert abs(whole - jax.grad(of_halves)(*z)).max() > 0.01


@pytest.mark.slow  # test_meshes.py has the glyphs
@pytest.mark.parametrize("name", ["glyphs_faces.py:small"])
def test_steps_on_a_mesh_equal_steps_on_one_device(name):
    losses = []
    for devices, mesh in ((1, {}), (8, {"mesh__fsdp": 4, "mesh__tensor": 2})):
        run = experiment(name, devices, batch_size=16, **mesh)
        with jax.set_mesh(run.mesh):
            state, step = run.initial_state(), run.train_step()
            losses.append([])
            for number in range(3):
                state, metrics = step(state, made_up_batch(run, number))
                losses[-1].append(float(metrics["loss"]))
        assert int(state.step) == 3
        assert jax.tree.map(lambda x: x.sharding, state) == run.state_shardings
    np.testing.assert_allclose(*losses, rtol=2e-4)


def test_a_step_learns_and_bounds_the_scale():
    """The loss wants a larger scale than it may have: the scale reaches its bound and stays there."""
    bound = {"scale": 2.9, "scale_max": 3.0, "label_smoothing": 0.0}
    settings = {f"losses__clip__{key}": value for key, value in bound.items()}
    run = experiment(batch_size=16, steps=40, optimizer__learning_rate=0.01, **settings)
    batch = made_up_batch(run)
    with jax.set_mesh(run.mesh):
        state, step = run.initial_state(), run.train_step()
        values, scales = [], []
        for _ in range(40):
            state, metrics = step(state, batch)
            values.append(float(metrics["loss"]))
            scales.append(float(jnp.exp(state.params["losses"]["clip"]["log_scale"])))
    assert values[-1] < 0.7 * values[0]
    assert max(scales) == pytest.approx(3.0, rel=1e-5)
    assert scales[-1] == pytest.approx(3.0, rel=1e-5)


def test_what_decays():
    run = experiment("clip.py:small")
    flat = jax.tree_util.tree_leaves_with_path(decaying(run.axes))
    decays = {jax.tree_util.keystr(path, simple=True, separator="/"): value for path, value in flat}
    assert any(decays.values())
    for name, value in decays.items():
        last = name.rsplit("/", 1)[-1]
        if last in ("kernel", "embedding"):
            assert value, name
        if last in ("bias", "scale", "log_scale", "class"):
            assert not value, name


def test_moments_lie_where_their_parameters_do():
    run = experiment(devices=8, mesh__data=1, mesh__fsdp=8)
    adam = next(
        s
        for s in jax.tree.leaves(run.state_shardings.opt_state, is_leaf=lambda s: hasattr(s, "mu"))
        if hasattr(s, "mu")
    )
    assert adam.mu == run.state_shardings.params == adam.nu
    assert any("fsdp" in str(s.spec) for s in jax.tree.leaves(adam.mu))
