"""Frozen parameters: no gradient, no moments, no decay, no backward pass; in core and out of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import altered, experiment, made_up_batch, read_in_pieces

from contrastive_jax.errors import InputError
from contrastive_jax.training.flops import flops, step_flops, work
from contrastive_jax.training.lora import Adapter
from contrastive_jax.training.pieces import whole_gradient
from contrastive_jax.training.step import gradients
from contrastive_jax.training.structure import named_leaves
from contrastive_jax.training.trainable import Trainable, join

FROZEN = ("encoders/image/*", "heads/text/*", "encoders/text/words/*", "losses/*")


@pytest.fixture(scope="module")
def base():
    return experiment(batch_size=16)


def in_core(run, params, batch, key):
    trainable, microbatch = run.trainable, run.config.microbatch

    def of(params, batch):
        return gradients(run.graph, run.losses, params, batch, key, microbatch, trainable)

    with jax.set_mesh(run.mesh):
        return jax.jit(of)(params, batch)


def out_of_core(run, params, batch, key):
    with jax.set_mesh(run.mesh):
        params = jax.device_put(params, run.state_shardings.params)
        found, own, pulled, _ = run.out_of_core_step.gradients(
            params, key, read_in_pieces(run, batch), ahead=0
        )
    return found, whole_gradient(own, pulled)


@pytest.fixture(scope="module")
def whole(base):
    """The state at the start, and the loss and the gradient of its first step with nothing frozen."""
    state = base.initial_state()
    key = jax.random.fold_in(state.key, 0)
    (value, _), gradient = in_core(base, state.params, made_up_batch(base), key)
    state = jax.device_get(state._replace(opt_state=(), key=()))
    return state, jax.device_get(jax.random.key_data(key)), float(value), named_leaves(gradient)


@pytest.mark.parametrize(
    ("devices", "config"),
    [
        (2, {"microbatch": 4, "mode": "out_of_core"}),
        (1, {}),
        (2, {"microbatch": 4}),
    ],
)
@pytest.mark.slow
def test_the_gradient_is_that_of_the_whole_without_what_is_frozen(base, whole, devices, config):
    state, key, value, full = whole
    run = altered(base, devices, frozen=FROZEN, **config)
    way = out_of_core if "mode" in config else in_core
    (loss, _), found = way(run, state.params, made_up_batch(run), jax.random.wrap_key_data(key))
    found = named_leaves(found)
    assert float(loss) == pytest.approx(value, rel=1e-5)
    assert found.keys() == {name for name in full if run.trainable.trains(name)}
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, full[name], rtol=2e-3, atol=2e-6, err_msg=name)


def test_a_step_leaves_the_frozen_as_they_are_and_has_no_moments_of_them(base, whole):
    start, key, _, full = whole
    run = altered(base, frozen=FROZEN)
    trained = {name for name in full if run.trainable.trains(name)}
    moments = run.optimizer.init(run.trainable.split(start.params)[0])
    state = start._replace(opt_state=moments, key=jax.random.fold_in(jax.random.key(run.config.seed), 1))
    assert jax.tree.structure(state) == jax.tree.structure(run.state_structure)
    assert np.array_equal(jax.random.key_data(jax.random.fold_in(state.key, 0)), key)
    state = jax.device_put(state, run.state_shardings)
    with jax.set_mesh(run.mesh):
        step = run.train_step()
        state, metrics = step(state, made_up_batch(run))
        norm = np.sqrt(sum(np.sum(np.square(full[name])) for name in trained))
        assert float(metrics["gradient_norm"]) == pytest.approx(norm, rel=1e-3)
        state, _ = step(state, made_up_batch(run))  # the warm-up begins at a learning rate of 0
    before, after = named_leaves(start.params), named_leaves(state.params)
    assert trained == {name for name in before if not np.array_equal(before[name], after[name])}
    assert {n.partition("/mu/")[2] for n in named_leaves(state.opt_state) if "/mu/" in n} == trained


def traced(run):
    """FLOPs of the products in the step's program."""
    with jax.set_mesh(run.mesh):
        program = run.train_step().trace(run.state_structure, made_up_batch(run))
    return flops(program.jaxpr.jaxpr)


@pytest.mark.parametrize("microbatch", [4, pytest.param(None, marks=pytest.mark.slow)])
def test_a_frozen_tower_has_no_backward_pass(base, microbatch):
    """Nor is it encoded again for one. Of the tower stays what runs forward."""
    trained = altered(base, microbatch=microbatch)
    frozen = altered(trained, frozen=("encoders/image/*",))
    only_text = work(base.graph, base.losses, base.config.batch_size, trained={"text"})
    assert only_text.frozen_encoders > 0
    backward = 2 if microbatch is None else 3
    # The pixels have no gradient, so that the first matrix has one product less in its backward pass.
    image = base.state_structure.params["encoders"]["image"]
    patches, positions = image["patches"]["kernel"].size, image["transformer"]["position"].shape[0]
    pixels = 2 * base.config.batch_size * positions * patches
    saved = traced(trained) - traced(frozen)
    assert saved == pytest.approx(backward * only_text.frozen_encoders - pixels, rel=0.01)
    assert step_flops(trained) - step_flops(frozen) == pytest.approx(2 * only_text.frozen_encoders)


@pytest.mark.slow
def test_no_encoder_at_all_need_be_trained_out_of_core(base, whole):
    """Only heads: nothing is pulled back, and the batch is not encoded twice."""
    run = altered(base, frozen=("encoders/*",), microbatch=4, mode="out_of_core")
    start, key, _, full = whole
    found = named_leaves(out_of_core(run, start.params, made_up_batch(run), jax.random.wrap_key_data(key))[1])
    assert found.keys() == {name for name in full if not name.startswith("encoders/")}
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, full[name], rtol=2e-3, atol=2e-6, err_msg=name)
    with jax.set_mesh(run.mesh):
        step = run.out_of_core_step
        state, metrics, _ = step(run.initial_state(), read_in_pieces(run, made_up_batch(run)), lambda _: None)
    assert metrics["embedding_drift"] == 0
    assert int(state.step) == 1


@pytest.mark.parametrize("pattern", ["*/attention/*", "*"])
def test_a_pattern_that_fits_an_adapters_name_freezes_no_adapter(base, pattern):
    lora = {"attention": Adapter("encoders/text/*/attention/*", rank=2)}
    run = altered(base, frozen=(pattern,), lora=lora)
    trained = named_leaves(run.trainable.split(run.state_structure.params)[0])
    adapters = {f"lora/{name}/{side}" for name in run.adapted for side in "ab"}
    assert len(adapters) == 4
    assert {name for name in trained if "attention/" in name} == adapters


def test_cut_in_two_and_joined():
    tree = {"encoders": {"image": {"kernel": jnp.ones(2), "bias": jnp.zeros(3)}}, "losses": {}}
    moving, still = Trainable(("*/bias",)).split(tree)
    assert list(named_leaves(moving)) == ["encoders/image/kernel"]
    assert list(named_leaves(still)) == ["encoders/image/bias"]
    assert jax.tree.structure(join(moving, still)) == jax.tree.structure(tree)


def test_what_is_frozen_is_told(base):
    run = altered(base, frozen=FROZEN)
    every = named_leaves(run.state_structure.params)
    counts = {
        p: sum(x.size for n, x in every.items() if n.startswith(p))
        for p in ("encoders/image/", "heads/text/")
    }
    report = run.trainable.report(run.state_structure.params)
    assert report[0] == f"encoders/image {counts['encoders/image/']:,} of {counts['encoders/image/']:,}"
    assert f"heads/text {counts['heads/text/']:,} of {counts['heads/text/']:,}" in report
    assert report[-1] == "losses/clip 1 of 1"
    assert not altered(base).trainable.report(run.state_structure.params)


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (("encoders/imge/*",), r"config\.frozen: .*'encoders/imge/\*'; did you mean encoders/image/\*"),
        (("encoders/image/*", "image/*"), r"config\.frozen: .*'image/\*'"),
        (("*",), r"config\.frozen=\('\*',\) freezes every parameter"),
    ],
)
def test_patterns_that_cannot_be_meant(base, frozen, message):
    with pytest.raises(InputError, match=message):
        altered(base, frozen=frozen)
