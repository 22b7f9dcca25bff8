"""Which checkpoints stay: the newest, the multiples, the best."""

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.retention import best, surplus


@given(
    st.sets(st.integers(0, 60)),
    st.integers(1, 4),
    st.none() | st.integers(1, 20),
    st.dictionaries(st.integers(0, 60), st.floats(-1, 1)),
    st.booleans(),
)
def test_what_goes_is_what_no_rule_keeps(steps, keep, every, scores, lowest):
    steps = sorted(steps)
    gone = surplus(steps, keep, every, scores, lowest)
    stays = set(steps) - set(gone)
    assert stays >= set(steps[-keep:])
    assert stays >= {step for step in steps if every and step % every == 0}
    measured = {step: scores[step] for step in steps if step in scores}
    if measured:
        extreme = (min if lowest else max)(measured.values())
        assert best(steps, scores, lowest) in stays
        assert measured[best(steps, scores, lowest)] == extreme
    multiples = {step for step in steps if every and step % every == 0}
    assert len(stays - multiples) <= keep + bool(measured)


def test_none_keeps_all():
    assert surplus([1, 2, 3], None, 2, {1: 0.0}) == []


@pytest.mark.parametrize(("lowest", "kept"), [(False, [2, 4, 8, 10]), (True, [3, 4, 8, 10])])
def test_on_disk(tmp_path, lowest, kept):
    """The best is known only after its checkpoint has been written."""
    scores = {2: 0.9, 3: 0.1, 5: 0.5}
    with Checkpoints(tmp_path, keep=1, keep_every=4, lowest=lowest) as checkpoints:
        for step in range(2, 11):
            checkpoints.save(step, {"x": jnp.full(3, float(step))})
            checkpoints.wait()
            if step in scores:
                checkpoints.scores[step] = scores[step]
        assert checkpoints.steps() == kept
        assert checkpoints.best() == kept[0]


def test_a_part_is_restored_alone(tmp_path):
    state = {"params": {"w": jnp.arange(4.0)}, "opt_state": {"m": jnp.ones(4)}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
        step, found, _ = checkpoints.restore({"params": {"w": jnp.zeros(4)}}, partial=True)
        assert step == 1
        assert set(found) == {"params"}
        assert found["params"]["w"].tolist() == [0, 1, 2, 3]
        with pytest.raises(ValueError, match=r"params/v is absent there"):
            checkpoints.restore({"params": {"v": jnp.zeros(4)}}, partial=True)
        with pytest.raises(ValueError, match=r"opt_state/m is float32\[4\] there, absent here"):
            checkpoints.restore({"params": {"w": jnp.zeros(4)}})
