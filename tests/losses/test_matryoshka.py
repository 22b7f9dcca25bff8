"""Matryoshka: the loss itself at one width, what each coordinate feels, and what is shared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import unit
from ml_collections import ConfigDict

import contrastive_jax as cj
from contrastive_jax.configuration import Kind, build, complete
from contrastive_jax.errors import InputError
from contrastive_jax.losses import KINDS

Z = {name: jnp.asarray(unit(i, 6, 8), jnp.float32) for i, name in enumerate("abcd")}
QUEUE = cj.Memory(jnp.asarray(unit(9, 5, 8), jnp.float32), jnp.arange(5) < 4)
GIVEN = {**Z, "queue": QUEUE}
SOFTMAX = {"kind": "softmax", "rows": "a", "columns": "b", "negatives": "c", "memory": "queue"}


def made(loss=SOFTMAX, **keywords):
    config = ConfigDict({"kind": "matryoshka", "loss": loss, **keywords})
    complete(config, Kind(KINDS))
    return build(config, Kind(KINDS))


def run(loss, params, fields=None, of=lambda z: z):
    """Value and gradients of the parameters and the embeddings, which are `of` what stands in Z."""

    @jax.jit
    def differentiated(params, z):
        def value(params, z):
            return loss(params, {"queue": QUEUE, **jax.tree.map(of, z)}, fields or {}).value

        return jax.value_and_grad(value, (0, 1))(params, z)

    return differentiated(params, Z)


def unit_length(z):
    return z / jnp.linalg.norm(z, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "inner",
    [
        SOFTMAX,
        {"kind": "sigmoid", "rows": "a", "columns": "b"},
        {"kind": "momentum_contrast", "queries": "a", "keys": "b", "memory": "queue"},
        {"kind": "cross_correlation", "a": "a", "b": "b"},
        {"kind": "mixed_barlow", "a": "a", "b": "b", "mixed": "c"},
    ],
)
def test_the_whole_width_is_the_loss_itself(inner):
    loss = made(inner, dims=(8,))
    base = loss.loss
    assert (loss.branches, loss.memories, loss.fields) == (base.branches, base.memories, base.fields)
    fields = {}
    if inner["kind"] == "mixed_barlow":
        assert loss.mixed_branch == "c"
        fields = {"c.partner": jnp.flip(jnp.arange(6)), "c.share": jnp.float32(0.3)}
    params = base.init()
    assert loss.init() == params
    runs = (run(one, params, fields, of=lambda z: unit_length(3 * z)) for one in (loss, base))
    for x, y in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_without_normalising_again_it_is_exact():
    loss = made(dims=(8,), normalize=False)
    params = loss.init()
    for x, y in zip(*(jax.tree.leaves(run(one, params)) for one in (loss, loss.loss)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-8)


def test_it_is_the_weighted_sum_over_widths():
    loss = made(dims=(2, 4, 8), weights=(0.5, 1.0, 2.0))
    params, want = loss.init(), 0.0
    for dim, weight in zip(loss.dims, loss.weights):
        cut = {k: z[:, :dim] / jnp.linalg.norm(z[:, :dim], axis=1, keepdims=True) for k, z in Z.items()}
        queue = QUEUE.embeddings[:, :dim]
        queue /= jnp.linalg.norm(queue, axis=1, keepdims=True)
        narrow = {**cut, "queue": QUEUE._replace(embeddings=queue)}
        want += weight * jax.jit(lambda p, z: loss.loss(p, z, {}).value)(params, narrow)
    found = jax.jit(lambda p, z: loss(p, z, {}))(params, GIVEN)
    assert float(found.value) == pytest.approx(float(want), rel=1e-5)
    assert {"loss_2", "loss_4", "loss_8", "positive_logit"} <= set(found.metrics)


def test_a_coordinate_feels_the_widths_beyond_it_alone():
    """Coordinate 3 (the fourth) is in widths 4 and 8, not in 2; beyond the largest width nothing is felt."""
    inner = {"kind": "sigmoid", "rows": "a", "columns": "b"}

    def felt(dims, normalize=True):
        loss = made(inner, dims=dims, normalize=normalize)
        return run(loss, loss.init())[1][1]["a"]

    two, four, six = (felt((dim,)) for dim in (2, 4, 6))
    np.testing.assert_allclose(felt((2, 4, 6)), two + four + six, rtol=1e-4, atol=1e-6)
    assert not two[:, 2:].any()
    assert not four[:, 4:].any()
    assert not felt((2, 6), False)[:, 6:].any()
    assert four[:, :4].any(0).all()


def test_groups_are_cut_too():
    inner = {"kind": "one_to_k", "image": "a", "views": ("texts",)}
    texts = jnp.asarray(unit(5, 6, 3, 8), jnp.float32)
    loss = made(inner, dims=(4,), normalize=False)
    got = jax.jit(lambda p: loss(p, {"a": Z["a"], "texts": texts}, {}).value)(loss.init())
    want = jax.jit(lambda: cj.one_to_k(Z["a"][:, :4], texts[..., :4], scale=loss.loss.scale).value)()
    assert float(got) == pytest.approx(float(want), rel=1e-6)


def test_what_is_shared():
    loss = made(dims=(2, 4))
    assert set(loss.init()) == {"log_scale"}
    far = {"log_scale": jnp.float32(9.0)}
    assert loss.project(far) == loss.loss.project(far)
    assert len(loss.matrices(6, {"queue": 5})) == 2 * len(loss.loss.matrices(6))
    assert loss.widths == 4


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"dims": ()}, "dims"),
        ({"dims": (0, 4)}, "dims"),
        ({"dims": (4, 4)}, "dims"),
        ({"dims": (4,), "weights": (1.0, 1.0)}, "weights"),
        ({"dims": (4,), "weights": (-1.0,)}, "weights"),
        ({"dims": (4,), "loss": {**SOFTMAX, "weight": 2.0}}, "loss.weight"),
        ({"dims": (4,), "loss": {"kind": "matryoshka"}}, "loss.kind"),
        ({"dims": (4,), "loss": {**SOFTMAX, "tau": 2.0}}, "loss.tau"),
    ],
)
def test_refused_settings(wrong, words):
    with pytest.raises(InputError, match=words):
        made(**wrong)


def test_a_width_that_is_not_there():
    with pytest.raises(InputError, match="'a' is only 8 wide"):
        made(dims=(4, 16))({}, GIVEN, {})
    narrow = {**GIVEN, "queue": cj.Memory(jnp.ones((5, 2)))}
    with pytest.raises(InputError, match="'queue' is only 2 wide"):
        made(dims=(4,))({}, narrow, {})
