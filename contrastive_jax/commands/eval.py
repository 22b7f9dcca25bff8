"""`contrastive-jax eval`: the evaluators of a run's config, on one of its checkpoints."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from contrastive_jax.commands.output import answer, reserved_stdout
from contrastive_jax.errors import DONE, FAILED, InputError


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        from contrastive_jax.training.manifest import CheckpointError

        try:
            answer(stream, _evaluate(options), options.json)
        except CheckpointError as error:
            print(f"contrastive-jax: {error}", file=sys.stderr)
            return FAILED
        return DONE


def _evaluate(options) -> dict:
    from contrastive_jax.configuration import build, complete, nearest
    from contrastive_jax.training.checkpoint import Checkpoints
    from contrastive_jax.training.evaluations import bind_tokenizer, evaluate
    from contrastive_jax.training.experiment import Config, Experiment

    path = Path(options.workdir)
    config = _stored_config(path)
    try:
        complete(config, Config)
        config.mesh.update(data=-1, fsdp=1, tensor=1)  # evaluation runs on whatever devices are here
        experiment = Experiment(build(config, Config), training=False)
    except InputError as error:
        raise InputError(f"--workdir {path}: {error}") from error
    evaluators = experiment.config.evaluation.evaluators if experiment.config.evaluation else {}
    for name in options.evaluator or ():
        if name not in evaluators:
            raise InputError(f"--evaluator {name}: unknown; {nearest(name, evaluators)}")
    if not evaluators:
        raise InputError(f"--workdir {path}: its config has no evaluators")
    checkpoints = Checkpoints(path / "checkpoints", experiment.config.checkpoint.every, read_only=True)
    with checkpoints:
        wanted = {"params": experiment.state_structure.params}
        restored = checkpoints.restore(wanted, options.step, partial=True)
    if restored is None:
        raise InputError(f"--workdir {path}: no checkpoint yet; train first")
    step, state, _ = restored
    views = bind_tokenizer(experiment, path)
    figures = evaluate(
        experiment, views, state["params"], names=options.evaluator and tuple(options.evaluator)
    )
    return {"workdir": str(path), "step": step, **figures}


def _stored_config(path: Path):
    from ml_collections import ConfigDict

    try:
        stored = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--workdir {path}: no run there (config.json cannot be read: {reason})") from error
    if not isinstance(stored, dict):
        raise InputError(f"--workdir {path}: no run there (config.json holds no JSON object)")
    return ConfigDict(stored)
