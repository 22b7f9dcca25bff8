"""Optimizers: schedules, what decays, one update by its formula, and where moments lie."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive_jax.errors import InputError
from contrastive_jax.training.optimizer import KINDS, decaying, moment_shardings

rng = np.random.default_rng(0)
AXES = {"layer": {"kernel": ("embed", "mlp"), "bias": ("mlp",)}, "log_scale": ()}
SHAPES = {"layer": {"kernel": (256, 128), "bias": (128,)}, "log_scale": ()}
is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
PARAMS = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s), jnp.float32), SHAPES, is_leaf=is_shape)
GRADIENT = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s), jnp.float32), SHAPES, is_leaf=is_shape)
every = pytest.mark.parametrize("kind", KINDS)


def after(kind, gradient=GRADIENT, steps=1, **keywords):
    """What `steps` updates without a warm-up, at a constant rate, add to the parameters."""
    settings = {"learning_rate": 0.1, "warmup": 0.0, "decay": "constant", "clip": None, **keywords}
    transformation = KINDS[kind](**settings).transformation(steps, decaying(AXES))
    state, params = transformation.init(PARAMS), PARAMS
    for _ in range(steps):
        updates, state = transformation.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return jax.tree.map(jnp.subtract, params, PARAMS)


class TestSchedules:
    @every
    @pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
    def test_up_and_down(self, kind, decay):
        rates = KINDS[kind](learning_rate=0.3, warmup=0.2, decay=decay).schedule(10)
        found = [float(rates(step)) for step in range(11)]
        down = np.arange(9) / 8
        want = {"cosine": (1 + np.cos(np.pi * down)) / 2, "linear": 1 - down, "constant": np.ones(9)}[decay]
        np.testing.assert_allclose(found[:2], [0, 0.15], atol=1e-6)
        np.testing.assert_allclose(found[2:], 0.3 * want, atol=1e-6)

    @pytest.mark.parametrize("decay", ["cosine", "linear"])
    def test_it_falls_to_the_final_rate(self, decay):
        rates = KINDS["sgd"](learning_rate=0.3, warmup=0.2, decay=decay, final=0.1).schedule(10)
        np.testing.assert_allclose([rates(2), rates(6), rates(10)], [0.3, 0.2, 0.1], atol=1e-6)

    @pytest.mark.parametrize("decay", ["linear", "constant"])
    def test_without_a_warmup_it_begins_at_the_top(self, decay):
        assert float(KINDS["sgd"](warmup=0.0, decay=decay).schedule(10)(0)) == pytest.approx(0.03)

    @pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
    @pytest.mark.parametrize("steps", [0, 1])
    def test_runs_of_next_to_no_steps(self, decay, steps):
        assert np.isfinite(float(KINDS["sgd"](warmup=1.0, decay=decay).schedule(steps)(0)))


def test_adamw_has_the_defaults_that_it_had():
    adamw = KINDS["adamw"]()
    assert (adamw.learning_rate, adamw.warmup, adamw.weight_decay) == (1e-3, 0.1, 0.1)
    assert (adamw.b1, adamw.b2, adamw.eps, adamw.clip, adamw.decay) == (0.9, 0.98, 1e-6, 1.0, "cosine")


class TestUpdates:
    """One parameter that decays, W, and one that does not."""

    W, b = PARAMS["layer"]["kernel"], PARAMS["layer"]["bias"]
    G, g = GRADIENT["layer"]["kernel"], GRADIENT["layer"]["bias"]

    def check(self, found, kernel, bias):
        np.testing.assert_allclose(found["layer"]["kernel"], kernel, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(found["layer"]["bias"], bias, rtol=2e-4, atol=1e-6)

    def test_sgd(self):
        found = after("sgd", steps=2, momentum=0.5, weight_decay=0.2)
        first = -0.1 * (self.G + 0.2 * self.W)
        second = -0.1 * (self.G + 0.2 * (self.W + first)) + 0.5 * first
        self.check(found, first + second, -0.1 * 2.5 * self.g)
        nesterov = after("sgd", momentum=0.5, nesterov=True, weight_decay=0.0)
        self.check(nesterov, -0.15 * self.G, -0.15 * self.g)

    def test_adam_takes_the_decay_into_its_gradient(self):
        whole = self.G + 0.2 * self.W
        found = after("adam", weight_decay=0.2, eps=1e-12)
        self.check(found, -0.1 * jnp.sign(whole), -0.1 * jnp.sign(self.g))

    def test_adamw_does_not(self):
        found = after("adamw", weight_decay=0.2, eps=1e-12)
        self.check(found, -0.1 * (jnp.sign(self.G) + 0.2 * self.W), -0.1 * jnp.sign(self.g))

    def test_lars_moves_a_matrix_by_its_norm(self):
        whole = self.G + 0.2 * self.W
        trust = 0.01 * jnp.linalg.norm(self.W) / jnp.linalg.norm(whole)
        found = after("lars", weight_decay=0.2, trust_coefficient=0.01)
        self.check(found, -0.1 * trust * whole, -0.1 * self.g)

    def test_lamb_moves_a_matrix_by_its_norm(self):
        step = jnp.sign(self.G) + 0.2 * self.W
        trust = jnp.linalg.norm(self.W) / jnp.linalg.norm(step)
        self.check(after("lamb", weight_decay=0.2, eps=1e-12), -0.1 * trust * step, -0.1 * jnp.sign(self.g))

    def test_adafactor_by_rows_and_columns(self):
        squares = self.G**2
        rows, columns = squares.mean(1, keepdims=True), squares.mean(0, keepdims=True)
        step = self.G / jnp.sqrt(rows * columns / rows.mean())
        step /= jnp.maximum(1, jnp.sqrt((step**2).mean()))
        found = after("adafactor", weight_decay=0.2)
        self.check(found, -0.1 * (step + 0.2 * self.W), -0.1 * jnp.sign(self.g))
        whole = after("adafactor", factored=False, by_scale=True)
        size = [jnp.sqrt((p**2).mean()) for p in (self.W, self.b)]
        self.check(whole, -0.1 * size[0] * jnp.sign(self.G), -0.1 * size[1] * jnp.sign(self.g))


@every
def test_the_gradient_is_clipped_as_a_whole(kind):
    huge = jax.tree.map(lambda g: 1e6 * g, GRADIENT)
    norm = float(optax.tree.norm(huge))
    clipped = after(kind, huge, clip=2.0)
    want = after(kind, jax.tree.map(lambda g: g * 2.0 / norm, huge))
    for a, b in zip(jax.tree.leaves(clipped), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


@every
def test_moments_lie_where_their_parameters_do(kind):
    """An update of a sharded state is that of one device and stays where it lies; frozen parts are None."""
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    everywhere = NamedSharding(mesh, PartitionSpec())
    specs = {
        "layer": {"kernel": PartitionSpec("fsdp", "tensor"), "bias": PartitionSpec("tensor")},
        "log_scale": PartitionSpec(),
        "frozen": None,
    }
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    params, gradient = ({**tree, "frozen": None} for tree in (PARAMS, GRADIENT))
    transformation = KINDS[kind]().transformation(10, {**decaying(AXES), "frozen": None})
    shapes = jax.eval_shape(transformation.init, params)
    places = moment_shardings(transformation, shapes, params, shardings, everywhere)

    def update(gradient, state, params):
        updates, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(transformation.init, out_shardings=places)(jax.device_put(params, shardings))
    large = [x for x in jax.tree.leaves(state) if x.shape == (256, 128)]
    assert all(x.sharding.spec == PartitionSpec("fsdp", "tensor") for x in large)
    assert len(large) == {"adamw": 2, "adam": 2, "lamb": 2, "sgd": 1, "lars": 1, "adafactor": 0}[kind]
    run = jax.jit(update, out_shardings=(shardings, places))
    got, want = (params, state), (params, transformation.init(params))
    for _ in range(2):
        got, want = run(gradient, got[1], got[0]), update(gradient, want[1], want[0])
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        *((kind, {"learning_rate": 0.0}) for kind in KINDS),
        ("adamw", {"warmup": 1.5}),
        ("adamw", {"eps": 0.0}),
        ("adamw", {"clip": 0.0}),
        ("adamw", {"b2": 1.0}),
        ("sgd", {"decay": "step"}),
        ("sgd", {"momentum": 1.0}),
        ("sgd", {"final": 0.1}),
        ("sgd", {"final": -0.1}),
        ("sgd", {"final": 0.01, "decay": "constant"}),
        ("sgd", {"weight_decay": -0.1}),
        ("lars", {"trust_coefficient": 0.0}),
        ("adafactor", {"decay_rate": 0.0}),
        ("adafactor", {"update_clip": 0.5}),
    ],
)
def test_refused_settings(kind, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        KINDS[kind](**wrong)
