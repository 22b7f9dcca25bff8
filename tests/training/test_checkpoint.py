import logging
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from states import abstract, hidden, opened, same, small

from contrastive_jax.errors import InputError
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.stored_steps import NoIntactCheckpoint


def flip(file, place=0.5):
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Steps 1, 2 and 3 of the small state; copied by those that damage them."""
    folder = tmp_path_factory.mktemp("made")
    with Checkpoints(folder, keep=None) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, small(step), {"digest": "abc"})
    return folder


@pytest.fixture
def copied(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "checkpoints"))


def test_round_trip_onto_another_mesh(tmp_path):
    meshes = [jax.make_mesh(s, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2) for s in [(4, 2), (2, 4)]]
    state = {
        "step": jnp.int32(7),
        "params": {
            "a": {"kernel": jax.random.normal(jax.random.key(1), (16, 24)), "none": None},
            "empty": {},
        },
        "opt_state": (jnp.ones((8,), jnp.bfloat16) * 1.1, [jnp.array([True, False]), jnp.uint8(3)]),
        "memory": jnp.zeros((0, 4)),
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 8),
    }

    def placed(mesh, leaf):
        spec = {(16, 24): P("data", "fsdp"), (8,): P("fsdp")}.get(leaf.shape, P())
        return NamedSharding(mesh, spec)

    sharded = jax.tree.map(lambda x: jax.device_put(x, placed(meshes[0], x)), state)
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore(abstract(state)) is None
        checkpoints.save(7, sharded, {"config": {"a": 1}})
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed(meshes[1], x)), abstract(state)
    )
    with Checkpoints(tmp_path / "new") as checkpoints:
        step, restored, extra = checkpoints.restore(target)
    assert (step, extra) == (7, {"config": {"a": 1}})
    same(state, restored)
    for wanted, got in zip(jax.tree.leaves(target), jax.tree.leaves(restored)):
        assert got.sharding == wanted.sharding
    assert jax.random.key_impl(restored["keys"]) == jax.random.key_impl(state["keys"])
    same(jax.random.normal(restored["key"], (3,)), jax.random.normal(state["key"], (3,)))


def test_the_state_may_be_donated_right_after_the_call(tmp_path):
    update = jax.jit(lambda x: x + 1, donate_argnums=0)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    start = np.arange(1 << 20, dtype=np.int32)
    x = update(jax.device_put(start - 1, NamedSharding(mesh, P("data"))))
    with opened(tmp_path, keep=None) as checkpoints:
        for step in range(4):
            checkpoints.save(step, {"x": x})
            x = update(update(x))
        for step in range(4):
            _, restored, _ = checkpoints.restore(abstract({"x": x}), step)
            np.testing.assert_array_equal(restored["x"], start + 2 * step)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_flipped_bit_of_a_step_is_found(made, data):
    files = sorted(p for p in (made / "2").rglob("*") if p.is_file() and p.stat().st_size)
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(changed)
    try:
        with opened(made, read_only=True) as checkpoints, pytest.raises(InputError, match=r"2 .* is damaged"):
            checkpoints.restore(abstract(small(2)), step=2)
    finally:
        file.write_bytes(content)


def test_a_damaged_newest_step_falls_back_with_one_warning(copied, caplog):
    flip(copied / "3" / "metadata.json")
    file = max((copied / "2" / "state").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    file.write_bytes(file.read_bytes()[:-1])
    with opened(copied, read_only=True) as checkpoints:
        step, state, _ = checkpoints.restore(abstract(small(1)))
        assert step == 1
    assert checkpoints.steps() == [1, 2, 3]
    caplog.clear()
    with opened(copied) as checkpoints, caplog.at_level(logging.WARNING, "contrastive_jax"):
        step, state, _ = checkpoints.restore(abstract(small(1)))
        assert (step, checkpoints.steps(), hidden(copied)) == (1, [1], [".2.damaged", ".3.damaged"])
        same(state, small(1))
        (record,) = caplog.records
        assert "metadata.json" in record.getMessage()
        assert "\n" not in record.getMessage()
        checkpoints.save(3, small(3))
        checkpoints.wait()
        assert checkpoints.restore(abstract(small(1)))[0] == 3


def test_no_intact_step_is_an_error_that_touches_nothing(copied):
    for step in (1, 2, 3):
        flip(copied / str(step) / "manifest.json")
    before = sorted(str(p) for p in copied.rglob("*"))
    with opened(copied) as checkpoints, pytest.raises(NoIntactCheckpoint) as error:
        checkpoints.restore(abstract(small(1)))
    message = str(error.value)
    assert str(copied) in message
    assert "1: manifest.json" in message
    assert "3: manifest.json" in message
    assert "\n" not in message
    assert sorted(str(p) for p in copied.rglob("*")) == before


def test_an_asked_for_step_is_that_step_or_an_error(copied):
    with opened(copied) as checkpoints:
        assert checkpoints.restore(abstract(small(1)), step=2)[0] == 2
        with pytest.raises(InputError, match=r"no checkpoint of step 9 .*1, 2, 3"):
            checkpoints.restore(abstract(small(1)), step=9)
        flip(copied / "2" / "metadata.json")
        with pytest.raises(InputError, match=r"step 2 .*damaged.*metadata\.json"):
            checkpoints.restore(abstract(small(1)), step=2)
        assert checkpoints.steps() == [1, 2, 3]


def test_another_model_and_a_newer_format_are_refused(copied, monkeypatch):
    with opened(copied) as checkpoints:
        with pytest.raises(
            InputError, match=r"params/kernel is float32\[4, 8\] there, float32\[4, 16\] here"
        ):
            checkpoints.restore(abstract(small(1, width=16)))
        other = small(1) | {"more": jnp.zeros(2, jnp.bfloat16)}
        with pytest.raises(InputError, match=r"more is absent there, bfloat16\[2\] here"):
            checkpoints.restore(abstract(other))
        with pytest.raises(InputError, match=r"step is int32\[\] there, absent here"):
            checkpoints.restore(abstract({"params": small(1)["params"]}))
        assert checkpoints.steps() == [1, 2, 3]
    monkeypatch.setattr("contrastive_jax.training.stored_steps.FORMAT", 0)
    with opened(copied) as checkpoints, pytest.raises(InputError, match="format 1"):
        checkpoints.restore(abstract(small(1)))


def test_old_steps_go_and_leftovers_are_cleaned(tmp_path):
    for name in (".4.partial", ".2.removed", ".2.damaged", "notes"):
        (tmp_path / name).mkdir()
    with opened(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore(abstract(small(1))) is None
        assert hidden(tmp_path) == [".2.damaged", ".2.removed", ".4.partial"]
    with opened(tmp_path, keep=2) as checkpoints:
        assert hidden(tmp_path) == [".2.damaged"]
        for step in (2, 4, 10, 20):
            checkpoints.save(step, small(step))
        checkpoints.save(20, small(99))
        checkpoints.wait()
        assert checkpoints.steps() == [10, 20]
        assert checkpoints.latest() == 20
        same(checkpoints.restore(abstract(small(1)))[1], small(20))
    with opened(tmp_path, keep=1) as checkpoints:
        checkpoints.save(20, small(21))  # not written or restored by this object: replaced
        checkpoints.wait()
        same(checkpoints.restore(abstract(small(1)))[1], small(21))
        assert (checkpoints.steps(), hidden(tmp_path)) == ([20], [".2.damaged"])
    with pytest.raises(InputError, match="1 or more"):
        Checkpoints(tmp_path, keep=0)
