"""Steps whose loss is not finite: which record is to blame, and going on without them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small import of_file

from contrastive_jax import encoders
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.training.loop import Run
from contrastive_jax.training.state import TrainState
from contrastive_jax.training.step import unless_bad
from contrastive_jax.training.step_metrics import NonFiniteLoss

TIMED = ("pairs_per_second", "flops_per_second", "mfu", "goodput", "seconds/")


@pytest.fixture(autouse=True)
def _kinds(monkeypatch):
    monkeypatch.setitem(encoders.KINDS, "standardised", None)  # the config's own is gone with the test


@pytest.fixture
def pictures(tmp_path):
    """32 of them, 4 batches an epoch; blank.png is one of them."""
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()
    for number in range(31):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    Image.new("RGB", (16, 16), (128, 128, 128)).save(folder / "blank.png")
    return folder


def started(pictures, path, **overrides):
    path.mkdir(exist_ok=True)
    experiment = of_file(f"blank_pictures.py:{pictures}", **overrides)
    return experiment, Run(experiment, path, StopRequest())


def lines(path):
    read = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if not key.startswith(TIMED)} for line in read]


def saved(path, experiment, step=None):
    checkpoints = Run(experiment, path, StopRequest()).checkpoints
    _, state, extra = checkpoints.restore(experiment.state_structure, step)
    checkpoints.close()
    return jax.device_get(state._replace(key=jax.random.key_data(state.key))), extra


def same(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


def test_what_a_bad_step_leaves():
    """Everything as it was but the number of the step; of a good one what it made."""
    old, new = (
        TrainState(jnp.int32(n), *({"x": jnp.full(3, float(n))} for _ in range(5)), jnp.int32(0))
        for n in (4, 5)
    )
    for loss, norm in ((1.0, jnp.nan), (jnp.inf, 1.0), (jnp.nan, jnp.nan)):
        found = unless_bad(new, old, {"loss": jnp.float32(loss), "gradient_norm": jnp.float32(norm)})
        assert same(found, old._replace(step=new.step))
    fine = unless_bad(new, old, {"loss": jnp.float32(1), "gradient_norm": jnp.float32(2)})
    assert same(fine, new)


@pytest.mark.slow
def test_a_run_stops_by_name_and_goes_on_as_if_it_had_not(pictures, tmp_path):
    """Of 8 steps two meet the blank picture. One run skips them; the other one stops at each, is let go on,
    and is stopped by the bound in between: lines and states are the same, bit for bit."""
    experiment, run = started(pictures, tmp_path / "straight", skip_bad_steps=2)
    run()
    straight = lines(tmp_path / "straight")
    skipped = [line["skipped"] for line in straight]
    bad = [step for step, (a, b) in enumerate(zip([0, *skipped], skipped), 1) if b > a]
    assert len(bad) == 2
    assert [line["step"] for line in straight if line["loss"] is None] == bad
    for most in (0, 1):
        _, run = started(pictures, tmp_path / "broken", skip_bad_steps=most)
        with pytest.raises(NonFiniteLoss, match=rf"step {bad[most]}: .*\['blank\.png'\]"):
            run()
    _, run = started(pictures, tmp_path / "broken", skip_bad_steps=2)
    run()
    state, extra = saved(tmp_path / "straight", experiment)
    again, extra_again = saved(tmp_path / "broken", experiment)
    assert extra == extra_again
    assert extra["skipped"] == 2
    assert lines(tmp_path / "broken") == straight
    assert same(again, state)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [{}, {"mode": "out_of_core", "microbatch": 4}, {"microbatch": 4}])
def test_a_skipped_step_leaves_everything_but_its_number(pictures, tmp_path, overrides):
    options = {"skip_bad_steps": 2, "checkpoint__every": 1, "checkpoint__keep": 100, **overrides}
    experiment, run = started(pictures, tmp_path / "run", **options)
    run()
    bad = next(line["step"] for line in lines(tmp_path / "run") if line["skipped"])
    first = max(bad - 1, 1)
    (before, _), (after, _) = (saved(tmp_path / "run", experiment, step) for step in (first, bad))
    assert int(after.step) == bad
    assert bad == 1 or same(after._replace(step=before.step), before)


@pytest.mark.slow
def test_a_record_that_is_left_out(pictures, tmp_path):
    _, run = started(pictures, tmp_path / "run", data__skip="['blank.png']")
    run()
    assert all(line["loss"] is not None and line["skipped"] == 0 for line in lines(tmp_path / "run"))
