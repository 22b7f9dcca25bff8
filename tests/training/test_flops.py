"""The FLOP formula against the compiler's own count, where it can count: in programs without loops."""

import jax
import jax.numpy as jnp
import pytest
from small import experiment

from contrastive_jax.losses import KINDS
from contrastive_jax.training.flops import flops, step_flops

WIDE = dict(encoders__image__width=256, encoders__image__heads=4)
CONFIGS = {
    "glyphs_faces.py:small": dict(batch_size=16, **WIDE),
    "clip.py:small": dict(
        batch_size=64,
        encoders__text__width=256,
        heads__image__features=2048,
        heads__text__features=2048,
        **WIDE,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_has_the_compilers_flops(name):
    wanted = experiment(name, **CONFIGS[name])
    size = wanted.config.batch_size
    views = {n: jax.ShapeDtypeStruct((size, *v.shape), v.dtype) for n, v in wanted.graph.views.items()}
    fields = {n: jax.ShapeDtypeStruct((size,), "int32") for n in wanted.fields}
    with jax.set_mesh(wanted.mesh):
        lowered = wanted.train_step().lower(wanted.state_structure, {"views": views, "fields": fields})
    counted = lowered.compile().cost_analysis()["flops"]
    assert step_flops(wanted) == pytest.approx(counted, rel=0.05)


def test_microbatches_and_remat_do_not_add_to_it():
    alike = dict(encoders__image__remat=True, microbatch=4, encoders__image__unroll=1)
    assert step_flops(experiment("clip.py:small", **alike)) == step_flops(experiment("clip.py:small"))


LOSSES = {
    "softmax": dict(rows="a", columns="b"),
    "softmax with negatives": dict(rows="a", columns="b", negatives="c", symmetric=False),
    "sigmoid": dict(rows="a", columns="b"),
    "nt_xent": dict(views=("a", "b")),
    "supervised": dict(views=("a", "b", "c"), labels="label"),
    "one_to_k": dict(image="a", views=("b", "c")),
    "attraction_repulsion": dict(views=("a", "b")),
    "gte": dict(queries="a", documents="b"),
    "symile": dict(views=("a", "b", "c")),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_declares_the_matrices_that_it_sweeps(name):
    """A sweep whose products are not kept for the backward pass makes them once more: a third."""
    loss = KINDS[name.partition(" ")[0]](**LOSSES[name])
    size, width = 96, 1024
    z = {n: jnp.ones((size, width)) for n in "abc"}
    fields, params = {"label": jnp.zeros(size, int)}, loss.init()
    swept = flops(jax.make_jaxpr(jax.value_and_grad(lambda z: loss(params, z, fields).value))(z).jaxpr)
    formula = sum(6 * m.rows * m.columns * width for m in loss.matrices(size))
    again = 4 / 3 if name == "attraction_repulsion" else 1
    assert swept == pytest.approx(again * formula, rel=0.01)


def test_loops_and_branches():
    a = jnp.ones((4, 8))

    def looped(a):
        return jax.lax.scan(lambda c, _: (c @ c.T @ a, None), a, length=3)[0]

    def branched(a):
        return jax.lax.cond(a[0, 0] > 0, lambda a: a @ a.T, lambda a: a @ a.T @ a @ a.T, a)

    def convolved(a):
        image, kernel = a.reshape(1, 4, 4, 2), jnp.ones((3, 3, 1, 6))  # two groups of one feature
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=2
        )

    once = 2 * 4 * 8 * 4
    assert flops(jax.make_jaxpr(jax.checkpoint(looped))(a).jaxpr) == 3 * 2 * once
    assert flops(jax.make_jaxpr(jax.jit(branched))(a).jaxpr) == once
    assert flops(jax.make_jaxpr(convolved)(a).jaxpr) == 2 * (4 * 4 * 6) * 9
