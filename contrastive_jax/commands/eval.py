"""`contrastive-jax eval`: the evaluators of a run's config, on one of its checkpoints."""

from __future__ import annotations

import argparse

from contrastive_jax.commands.output import answer, reserved_stdout
from contrastive_jax.errors import DONE, InputError


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        answer(stream, _evaluate(options), options.json)
        return DONE


def _evaluate(options) -> dict:
    from contrastive_jax.configuration import nearest
    from contrastive_jax.training.comparisons import check_evaluator_widths
    from contrastive_jax.training.evaluations import evaluate
    from contrastive_jax.training.stores.paths import place
    from contrastive_jax.training.trained import open_experiment, restore

    path = place(options.workdir)
    experiment = open_experiment(path)
    evaluators = experiment.config.evaluation.evaluators if experiment.config.evaluation else {}
    for name in options.evaluator or ():
        if name not in evaluators:
            raise InputError(f"--evaluator {name}: unknown; {nearest(name, evaluators)}")
    if not evaluators:
        raise InputError(f"--workdir {path}: its config has no evaluators")
    names = options.evaluator and tuple(options.evaluator)
    check_evaluator_widths({name: evaluators[name] for name in names or evaluators}, experiment.graph)
    trained = restore(path, experiment, options.step)
    figures = evaluate(experiment, trained.views, trained.params, names=names)
    return {"workdir": str(path), "step": trained.step, **figures}
