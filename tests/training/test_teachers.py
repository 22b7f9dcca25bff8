"""Teachers: what they copy, how they follow, and that no gradient reaches them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import altered, made_up_batch, of_file

from contrastive_jax.branches.teachers import Teacher
from contrastive_jax.errors import InputError
from contrastive_jax.training.step import model_of, total_loss

CONFIG = "graph_config.py"


@pytest.mark.parametrize("n", [1, 5])
def test_a_teacher_is_the_closed_form_of_its_average(n):
    m = 0.9
    teacher, copy = Teacher("a", momentum=m), {"w": jnp.zeros(3)}
    for step in range(n):
        copy = teacher.follow(copy, {"w": jnp.ones(3)}, step, n)
    np.testing.assert_allclose(copy["w"], 1 - m**n, rtol=1e-6)


def test_the_momentum_goes_along_a_half_cosine():
    teacher = Teacher("a", momentum=0.9, final=1.0)
    got = [float(teacher.momentum_at(step, 101)) for step in (0, 25, 50, 100, 200)]
    want = [1 - 0.1 * (np.cos(np.pi * share) + 1) / 2 for share in (0, 0.25, 0.5, 1, 1)]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert Teacher("a", momentum=0.9).momentum_at(7, 10) == 0.9


def test_a_teacher_follows_after_the_update_and_copies_up_to_its_stage():
    run = of_file(CONFIG)
    with jax.set_mesh(run.mesh):
        before = run.initial_state()
        copied = before.teachers["target"]
        assert set(copied["heads"]) == {"projector"}  # the predictor stays out
        params = jax.tree.map(np.asarray, before.params)
        jax.tree.map(np.testing.assert_array_equal, copied["encoders"], params["encoders"])
        after, _ = run.train_step()(before, made_up_batch(run))
    m = run.config.teachers["target"].momentum
    old, new = params["encoders"], after.params["encoders"]
    want = jax.tree.map(lambda x, y: m * x + (1 - m) * y, old, new)
    got = after.teachers["target"]["encoders"]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-8), got, want)
    assert any(np.any(x != y) for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(old)))


def test_no_gradient_reaches_a_teacher():
    run = of_file(CONFIG)
    with jax.set_mesh(run.mesh):
        state, batch = run.initial_state(), made_up_batch(run)

        def objective(teachers):
            model = {**model_of(state), "teachers": teachers}
            return total_loss(run.graph, run.losses, model, batch, jax.random.key(1), None)[0]

        gradient = jax.jit(jax.grad(objective))(state.teachers)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_a_teacher_that_does_not_train_has_the_statistics_of_its_branch():
    graph = of_file(CONFIG, teachers__target__train=False).graph
    state = graph.beside(jax.random.key(0), graph.init(jax.random.key(0)))
    assert set(state["statistics"]) == {"projector", "predictor"}
    model = {**graph.init(jax.random.key(0)), **state}
    rows = jax.random.normal(jax.random.key(1), (16, graph.width("a.encoder")))

    def embedded(mean):
        moved = {name: x + mean for name, x in state["statistics"]["projector"].items() if "mean" in name}
        statistics = {**state["statistics"], "projector": {**state["statistics"]["projector"], **moved}}
        return graph.stages({**model, "statistics": statistics}, "target_a", rows, train=True, key=None)

    assert not np.allclose(embedded(0.0)[0]["target_a"], embedded(1.0)[0]["target_a"])
    assert embedded(1.0)[1] == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"branch": "nobody"}, "config.teachers.target.branch: 'nobody' is unknown"),
        ({"branch": "target_a"}, "is a teacher's itself"),
        ({"stage": "projektor"}, "config.teachers.target.stage=projektor.*did you mean projector"),
    ],
)
def test_a_teacher_of_nothing_is_refused_by_its_key(changes, message):
    run = of_file(CONFIG)
    teachers = {"target": dataclasses.replace(run.config.teachers["target"], **changes)}
    with pytest.raises(InputError, match=message):
        altered(run, teachers=teachers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "nobody"}, "config.branches.target_a.teacher: 'nobody' is unknown"),
        ({"heads": ("predictor",)}, "brings its own encoder and heads"),
        ({"teacher": None}, "config.branches.target_a.encoder is missing"),
    ],
)
def test_a_branch_with_no_such_teacher_is_refused(changes, message):
    run = of_file(CONFIG)
    branches = dict(run.config.branches)
    branches["target_a"] = dataclasses.replace(branches["target_a"], **changes)
    with pytest.raises(InputError, match=message):
        altered(run, branches=branches)


def test_a_teacher_that_no_branch_has_is_refused():
    run = of_file(CONFIG)
    with pytest.raises(InputError, match=r"config.teachers.other: no branch has it as its teacher"):
        altered(run, teachers={**run.config.teachers, "other": Teacher("a")})


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_momentum_is_a_share(value):
    with pytest.raises(InputError, match="momentum"):
        Teacher("a", momentum=value)
