"""The one warning of a loss that stays where chance has it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from contrastive_jax.losses import KINDS
from contrastive_jax.training.collapse import Collapse
from contrastive_jax.training.optimizer import AdamW

LN = math.log(64)


def watch(extra, losses=("clip",), steps=30, collapse_steps=5, warmup=10):
    made = {name: KINDS["softmax"](rows="a", columns="b", weight=2.0) for name in losses}
    config = SimpleNamespace(
        steps=steps,
        batch_size=64,
        losses=made,
        logging=SimpleNamespace(collapse_steps=collapse_steps),
        optimizer=SimpleNamespace(learning_rate=1.0),
    )
    branches = {name: SimpleNamespace(view=name) for name in ("a", "b")}
    graph = SimpleNamespace(memory={}, counts={}, branches=branches)
    experiment = SimpleNamespace(config=config, graph=graph, rate=lambda step: np.minimum(step / warmup, 1.0))
    return Collapse(experiment, extra)


def told(collapse, losses, first=1):
    """The steps that are told of, by the loss of each."""
    each = ((step, collapse(step, {"loss": 2 * loss})) for step, loss in enumerate(losses, first))
    return {step: text for step, text in each if text}


def test_it_is_told_once_and_not_of_the_warm_up():
    found = told(watch({}), [LN] * 30)
    assert list(found) == [15]
    assert f"within 1 % of {LN:.4g}" in found[15]
    assert "for 5 steps (config.logging.collapse_steps)" in found[15]


@pytest.mark.parametrize("losses", [[LN] * 14 + [0.98 * LN] * 16, [LN, LN, 0.9 * LN] * 10])
def test_a_run_that_learns_is_not_disturbed(losses):
    assert not told(watch({}), losses)


def test_a_resumed_run_counts_on_and_is_silent_after_it_has_told():
    extra = {}
    assert not told(watch(extra), [LN] * 13)
    assert list(told(watch(extra), [LN] * 9, first=14)) == [15]
    assert not told(watch(extra), [LN] * 9, first=22)


def test_one_of_several_losses():
    collapse = watch({}, ("good", "bad"))
    values = {"loss": 1.0, "good/loss": 1.0, "bad/loss": LN, "bad/in_batch_accuracy": 0.02}
    values["bad/in_batch_chance"] = 1 / 64
    texts = [text for step in range(11, 20) if (text := collapse(step, values))]
    assert len(texts) == 1
    assert "loss 'bad'" in texts[0]
    assert "in-batch accuracy 0.02 beside 0.0156 at chance" in texts[0]


def test_the_number_of_steps_grows_with_the_run():
    counts = [watch({}, steps=steps, collapse_steps=None).steps for steps in (24, 5000, 10**6)]
    assert counts == [100, 500, 1000]


def test_the_schedule_is_asked_once_for_the_end_of_the_warm_up():
    """Step by step it would take longer than the train step itself where runs are long."""
    collapse, asked = watch({}), []
    schedule = collapse.experiment.rate
    collapse.experiment.rate = lambda step: asked.append(step) or schedule(step)
    assert list(told(collapse, [LN] * 30)) == [15]
    assert len(asked) == 1


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
def test_the_warm_up_of_a_real_schedule(decay):
    collapse = watch({})
    optimizer = AdamW(learning_rate=1.0, warmup_steps=10, decay=decay)
    collapse.experiment.rate = optimizer.schedule(30)
    assert list(told(collapse, [LN] * 30)) == [15]
