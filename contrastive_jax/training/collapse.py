"""A collapse that would pass in silence: a loss that stays where it is when all embeddings are alike."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from contrastive_jax.training.experiment import Experiment

_NEAR = 0.01
_FEWEST, _MOST = 100, 1000


class Collapse:
    """Counts the steps in a row, after the warm-up, in which a loss is within 1 % of its value at chance.

    extra: JSON values beside the saved states; the counts (`at_chance`) and whether it has been told
    (`collapsed`) stand there, so that a resumed run counts as one that was not disturbed.
    """

    def __init__(self, experiment: Experiment, extra: dict[str, Any]) -> None:
        self.experiment, self.extra = experiment, extra
        config, graph = experiment.config, experiment.graph
        tenth = min(max(config.steps // 10, _FEWEST), _MOST)
        self.steps = config.logging.collapse_steps or tenth
        memories = {name: queue.columns for name, queue in graph.memory.items()}
        branches = {name for loss in config.losses.values() for name in loss.branches}
        views = {name: graph.branches[name.partition(".")[0]].view for name in branches}
        sizes = {name: config.batch_size * graph.counts.get(view, 1) for name, view in views.items()}
        found = {n: loss.at_chance(config.batch_size, memories | sizes) for n, loss in config.losses.items()}
        self.at_chance: dict[str, float] = {name: value for name, value in found.items() if value}

    def __call__(self, step: int, values: Mapping[str, float]) -> str:
        """Takes note of a step's metrics; what is to be told, once a run, else nothing."""
        if step <= self._warmup:
            return ""
        losses, before = self.experiment.config.losses, self.extra.get("at_chance", {})
        counts = {}
        for name, chance in self.at_chance.items():
            weight = losses[name].weight if len(losses) == 1 else 1.0
            value = values["loss"] if len(losses) == 1 else values[f"{name}/loss"]
            near = weight > 0 and abs(value / weight - chance) <= _NEAR * chance
            counts[name] = before.get(name, 0) + 1 if near else 0
        self.extra["at_chance"] = counts
        long = [name for name, count in counts.items() if count >= self.steps]
        if not long or self.extra.get("collapsed"):
            return ""
        self.extra["collapsed"] = True
        return self._told(step, long[0], values)

    @functools.cached_property
    def _warmup(self) -> int:
        # When first asked for: a run that is resumed has another schedule than its config alone.
        rates = np.asarray(self.experiment.rate(np.arange(self.experiment.config.steps)))
        return int(np.argmax(rates >= 0.999 * self.experiment.config.optimizer.learning_rate))

    def _told(self, step: int, name: str, values: Mapping[str, float]) -> str:
        chance = self.at_chance[name]
        accuracy, of = values.get(f"{name}/in_batch_accuracy"), ""
        if accuracy is not None:
            beside = values[f"{name}/in_batch_chance"]
            of = f", in-batch accuracy {accuracy:.3g} beside {beside:.3g} at chance"
        return (
            f"step {step}: loss {name!r} has been within 1 % of {chance:.4g}, its value when all embeddings "
            f"are alike, for {self.steps} steps (config.logging.collapse_steps){of}: has it collapsed? "
            "The usual causes: a learning rate that is too high, or without a warm-up (config.optimizer); "
            "pairs that do not belong together (views, the order of a source, the loss's positives); an "
            "encoder that gives the same for everything (config.frozen, embeddings not normalised, a scale "
            "far too small)"
        )
