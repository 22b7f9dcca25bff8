"""One run on meshes of every shape: the same numbers, nothing whole that should be shared, clear refusals."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from small import CONFIGS, experiment, made_up_batch

from contrastive_jax import cli
from contrastive_jax.errors import InputError
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.structure import is_key

EIGHT_HEADS = {"encoders__image__heads": 8, "encoders__text__heads": 8}
DROPPING = {"encoders__image__drop_path": 0.2, "encoders__text__dropout": 0.2}
MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (2, 1, 4), (1, 1, 8)]


def mesh(data, fsdp, tensor):
    return {"mesh__data": data, "mesh__fsdp": fsdp, "mesh__tensor": tensor}


def glyphs(loss, sizes):
    return experiment(
        f"glyphs.py:small,loss={loss}", 8, **mesh(*sizes), **EIGHT_HEADS, **DROPPING, batch_size=16
    )


@functools.cache
def start(loss):
    """The state before the first step."""
    run = glyphs(loss, MESHES[0])
    with jax.set_mesh(run.mesh):
        return run.initial_state()


@functools.cache
def first_steps(loss, sizes):
    """The metrics of each step, and the parameters after the last; the learning rate is 0 in the first."""
    run = glyphs(loss, sizes)
    with jax.set_mesh(run.mesh):
        state, step, metrics = (
            jax.device_put(start(loss), run.state_shardings, may_alias=False),
            run.train_step(),
            [],
        )
        for number in range(3):
            state, values = step(state, made_up_batch(run, number))
            metrics.append({name: float(value) for name, value in values.items()})
    assert jax.tree.map(lambda x: x.sharding, state) == run.state_shardings
    return metrics, jax.tree.map(np.asarray, state.params)


EVERY = [(loss, sizes) for loss in ("softmax", "sigmoid") for sizes in MESHES[1:]]
QUICK = [("softmax", MESHES[1])]


@pytest.mark.parametrize(
    ("loss", "sizes"), [pytest.param(*e, marks=() if e in QUICK else pytest.mark.slow) for e in EVERY]
)
def test_the_first_steps_agree_on_every_mesh(loss, sizes):
    """Dropout on; the metrics hold the loss, the norm of the gradient and the loss's own parameters."""
    metrics, params = first_steps(loss, sizes)
    want_metrics, want_params = first_steps(loss, MESHES[0])
    assert {"loss", "gradient_norm"} < set(metrics[0])
    assert metrics[2]["loss"] != metrics[0]["loss"]
    for got, want in zip(metrics, want_metrics, strict=True):
        assert got == pytest.approx(want, rel=3e-6)
    # Adam makes a step of the learning rate, 4e-3, of every gradient that is not 0.
    for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(want_params), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", [(2, 2, 2), *(pytest.param(m, marks=pytest.mark.slow) for m in MESHES)])
def test_every_mesh_starts_from_the_same_state(sizes):
    run = glyphs("softmax", sizes)
    with jax.set_mesh(run.mesh):
        state = run.initial_state()
    assert jax.tree.map(lambda x: x.sharding, state) == run.state_shardings
    for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(start("softmax")), strict=True):
        if not is_key(got):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert (jax.random.key_data(state.key) == jax.random.key_data(start("softmax").key)).all()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("glyphs.py:small", (1, 4, 2)),
        pytest.param("glyphs.py:small", (1, 8, 1), marks=pytest.mark.slow),
        pytest.param("glyphs_faces.py:small", (2, 2, 2), marks=pytest.mark.slow),
    ],
)
def test_no_device_holds_the_activations_of_the_whole_batch(name, sizes):
    """In what the compiler made, no array of the encoders or heads has as many rows as the batch."""
    batch_size = 8 * 37
    run = experiment(name, 8, batch_size=batch_size, **mesh(*sizes))
    with jax.set_mesh(run.mesh):
        program = run.train_step().lower(run.state_structure, made_up_batch(run)).compile().as_text()
    own = re.compile(rf"= \w+\[(?:\d+,)*{batch_size // (sizes[0] * sizes[1])}[,\]]")
    whole = re.compile(rf"= \w+\[(?:\d+,)*{batch_size}[,\]]")
    lines = [text for text in program.splitlines() if re.search(r'op_name="[^"]*(Module|Layers)', text)]
    assert any(own.search(text) for text in lines)
    assert [text[:200] for text in lines if whole.search(text)] == []


@pytest.mark.parametrize(
    ("sizes", "settings", "words"),
    [
        (
            (1, 1, 8),
            {},
            "encoders/image/transformer/blocks/attention/out/kernel: axis 'heads' of size 4 does not divide "
            "over 8 devices (config.mesh.tensor=8)",
        ),
        (
            (1, 8, 1),
            {"encoders__text__width": 36, "encoders__text__heads": 4},
            "encoders/text/transformer/blocks/attention/out/bias: axis 'embed' of size 36",
        ),
        ((2, 1, 4), {"heads__projector__hidden": 66}, "heads/projector/hidden_0/bias: axis 'mlp' of size 66"),
        (
            (2, 1, 4),
            {"data__tokenizer__vocabulary": 2047, "encoders__text__vocabulary": 2050},
            "encoders/text/words/embedding: axis 'vocab' of size 2050 does not divide over 4 devices",
        ),
    ],
)
def test_a_parameter_that_does_not_divide_is_named_before_anything_is_made(sizes, settings, words):
    name = "glyphs_faces.py:small" if "heads__projector__hidden" in settings else "glyphs.py:small"
    with pytest.raises(InputError) as raised:
        experiment(name, 8, **mesh(*sizes), **settings)
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)


def test_a_run_on_a_mesh_that_does_not_fit_is_refused_by_the_command(tmp_path, capfd):
    config = f"{CONFIGS}/glyphs.py:small"
    mesh = ["--config.mesh.data=1", "--config.mesh.tensor=8"]
    assert cli.main(["train", "--config", config, "--workdir", str(tmp_path / "run"), *mesh]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("contrastive-jax: encoders/image/")
    assert not (tmp_path / "run").exists()


class Taught(Experiment):
    """With a teacher and a memory, as methods have them."""

    @property
    def state_axes(self):
        teacher = self.axes["encoders"]["image"]
        return {
            **super().state_axes,
            "teachers": {"image": teacher},
            "memory": {"queue": ("batch", "features")},
        }

    def new_state(self, key):
        state = super().new_state(key)
        teachers = {"image": state.params["encoders"]["image"]}
        return state._replace(teachers=teachers, memory={"queue": jnp.zeros((32, 8))})


def test_teachers_and_memory_follow_the_table():
    plain = experiment(devices=8, **mesh(2, 2, 2))
    placed = Taught(plain.config, jax.devices()[:8]).state_shardings
    assert placed.teachers["image"] == placed.params["encoders"]["image"]
    assert placed.memory["queue"].spec == P(("data", "fsdp"))
