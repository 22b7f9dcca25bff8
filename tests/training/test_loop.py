"""The loop in this process: what it refuses, and what it leaves behind."""

import contextlib
import dataclasses
import json
import time

import jax
import numpy as np
import pytest
from PIL import Image
from small import altered, experiment

from contrastive_jax.data.glyphs import Glyphs
from contrastive_jax.distributed.stopping import StopRequest
from contrastive_jax.training.loop import Run, Stopped
from contrastive_jax.training.save_interval import SaveInterval
from contrastive_jax.training.schema import Checkpoint
from contrastive_jax.training.step_metrics import NonFiniteLoss


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path_factory.getbasetemp() / "glyphs"))


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    """A learning rate that throws the parameters to infinity; nothing of it reaches a checkpoint."""
    run_parts = experiment(
        steps=12,
        batch_size=16,
        checkpoint__every=1,
        optimizer__learning_rate=1e30,
        optimizer__warmup=0.5,
        optimizer__clip="None",
    )
    with pytest.raises(
        NonFiniteLoss, match=r"step \d+: (loss|gradient_norm) is (nan|inf); .* up to step \d+"
    ):
        Run(run_parts, tmp_path, StopRequest())()
    kept = Run(run_parts, tmp_path, StopRequest()).checkpoints
    step, state, _ = kept.restore(run_parts.state_structure)
    assert step >= 1
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert not (tmp_path / "result.json").exists()
    assert int(state.step) == step


def test_a_stop_before_the_first_step(tmp_path):
    stop = StopRequest()
    run = Run(experiment(steps=2, batch_size=16), tmp_path, stop)
    stop._note(15, None)
    with pytest.raises(Stopped, match="SIGTERM"):
        run()


class SlowInput(Run):
    """Every batch takes `SECONDS` to come: the rate of a line can be no higher, however short it is."""

    SECONDS = 0.25

    @contextlib.contextmanager
    def _batches(self, start):
        with super()._batches(start) as stream:
            yield (time.sleep(self.SECONDS) or batch for batch in stream)


def test_a_short_last_line_has_the_rate_of_its_own_steps(tmp_path):
    run_parts = altered(experiment(steps=4, batch_size=16, logging__every=3), evaluation=None)
    SlowInput(run_parts, tmp_path, StopRequest())()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 4]
    for row, steps in zip(rows, (3, 1)):
        assert row["seconds/input"] >= steps * SlowInput.SECONDS
        assert row["pairs_per_second"] <= 16 / SlowInput.SECONDS


def saved(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("keep", "steps"),
    [
        (dict(every="0.001min"), [1, 2, 3, 4]),
        (dict(every="60min"), [4]),
        (dict(every="60min", keep_every=3), [3, 4]),
        (dict(every="60min", best="loss"), [2, 4]),
    ],
)
def test_steps_are_saved_by_the_clock_and_where_they_may_have_to_stay(tmp_path, keep, steps):
    run = experiment(steps=4, batch_size=16)
    if "best" not in keep:
        run = altered(run, evaluation=None)
    else:
        run = altered(run, evaluation=dataclasses.replace(run.config.evaluation, evaluators={}, every=2))
    SlowInput(altered(run, checkpoint=Checkpoint(keep=None, **keep)), tmp_path, StopRequest())()
    assert saved(tmp_path) == steps


class TimedInput(Run):
    """25 seconds pass with every batch, by the clock that the saves go by."""

    seconds = 0.0

    @contextlib.contextmanager
    def _batches(self, start):
        def passing(stream):
            for batch in stream:
                self.seconds += 25.0
                yield batch

        with super()._batches(start) as stream:
            yield passing(stream)


def test_minutes_count_from_the_last_save(tmp_path):
    run = altered(experiment(steps=7, batch_size=16), evaluation=None, checkpoint=Checkpoint(keep=None))
    run = TimedInput(run, tmp_path, StopRequest())
    run.interval = SaveInterval("1min", lambda: run.seconds)
    run()
    assert saved(tmp_path) == [3, 6, 7]


def test_figures_of_another_question_are_no_scores(tmp_path):
    """Nor are they in the curves; a line of an earlier version does not say what it was asked."""
    run = experiment(steps=4, batch_size=16, checkpoint__best="retrieval/text_to_image/R@1")
    steps = Run(run, tmp_path, StopRequest()).evaluations
    figures = {"loss": 1.0, "retrieval/text_to_image/R@1": 0.5, "scripts/accuracy": 0.1}
    now = {**figures, **steps._asked}
    other = {**now, "retrieval/config": "00000000"}
    steps.score({"step": 1, **other}, {"step": 2, **now}, {"step": 3, **figures})
    assert steps.checkpoints.scores == {2: 0.5, 3: 0.5}
    assert steps.of_now(other) == {
        "loss": 1.0,
        "scripts/accuracy": 0.1,
        **_without(steps._asked, "retrieval"),
    }
    assert steps.of_now(now) == now
    assert steps._figures(now) == {name: value for name, value in figures.items() if name != "loss"}
    assert steps._figures(other) is steps._figures(figures) is None


def _without(asked, evaluator):
    return {name: value for name, value in asked.items() if not name.startswith(evaluator)}


@pytest.mark.slow  # tests/commands has the command's own small run
@pytest.mark.parametrize("name", ["glyphs_faces.py:small", "glyphs.py:small,loss=sigmoid"])
def test_a_small_run_ends_with_figures_and_pictures(tmp_path, name):
    run = Run(experiment(name, devices=2, steps=4, batch_size=16, microbatch=4), tmp_path, StopRequest())
    result = run()
    assert result["step"] == 4
    recalls = [value for key, value in result.items() if "/R@5" in key]
    assert len(recalls) == 2
    assert all(0 <= value <= 1 for value in recalls)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"curves.png", "retrieval.png"}
    assert any((tmp_path / "tensorboard").iterdir())


@pytest.mark.slow
def test_clip_trains_on_captioned_pictures(tmp_path):
    """The small mode of the config that people start from, on pictures in a folder."""
    glyphs = Glyphs("held_out", one_per_character=True)
    with open(tmp_path / "captions.jsonl", "w") as file:
        for index in range(48):
            Image.fromarray(glyphs[index]["image"]).save(tmp_path / f"{index}.png")
            file.write(json.dumps({"image": f"{index}.png", "text": glyphs[index]["text"]}) + "\n")
    source = f"jsonl:{tmp_path / 'captions.jsonl'}"
    run = experiment(f"clip.py:small,source={source},held_out={source}", steps=4)
    (tmp_path / "run").mkdir()
    result = Run(run, tmp_path / "run", StopRequest())()
    assert np.isfinite(result["loss"])
    assert "retrieval/image_to_text/R@1" in result


@pytest.mark.parametrize(("size", "millions"), [("B/16", 149.6), ("B/32", 151.3), ("L/14", 427.6)])
def test_clip_has_the_shape_of_clip(size, millions):
    """Parameters of the published models, counted from shapes alone; no source is opened."""
    run = experiment(f"clip.py:size={size},res=224,source=jsonl:/nowhere.jsonl", batch_size=64)
    params = run.state_structure.params
    count = sum(np.prod(x.shape) for x in jax.tree.leaves(params))
    assert count / 1e6 == pytest.approx(millions, rel=0.002)
    assert params["heads"]["image"]["out"]["kernel"].shape[1] == {"B": 512, "L": 768}[size[0]]
