"""`contrastive-jax train`: trains, or resumes what is there."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import sys
from pathlib import Path

from contrastive_jax.commands.output import answer, reserved_stdout
from contrastive_jax.errors import DONE, FAILED, STOPPED_EARLY


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        from contrastive_jax.distributed.stopping import StopRequest

        with StopRequest() as stop:
            return _train(options, stop, stream)


def _train(options, stop, stream) -> int:
    from contrastive_jax.configuration import build, load
    from contrastive_jax.training.experiment import Config, Experiment
    from contrastive_jax.training.loop import NonFiniteLoss, Run, Stopped, StoppedInStep
    from contrastive_jax.training.manifest import CheckpointError
    from contrastive_jax.training.workdir import finished, open_workdir

    config = load(options.config, options.overrides, Config)
    experiment = Experiment(build(config, Config))
    if not (Path(options.workdir) / "config.json").exists():
        experiment.check_data()  # first, so that no work directory stays behind that holds a wrong source
    with open_workdir(options.workdir, json.loads(config.to_json()), options.extend) as workdir:
        result = finished(workdir.path)
        try:
            if result is None:
                result = Run(experiment, workdir.path, stop)()
            else:
                print(f"{workdir.path} is finished: {result['step']} steps", file=sys.stderr)
        except Stopped as signal:
            print(f"{signal}: saved in {workdir.path}; run the same command again to go on", file=sys.stderr)
            if isinstance(signal, StoppedInStep):
                # The interpreter would wait for the program under way, for minutes in a huge step.
                atexit.register(os._exit, STOPPED_EARLY)
            return STOPPED_EARLY
        except (NonFiniteLoss, CheckpointError, OSError) as error:
            print(f"contrastive-jax: {error}", file=sys.stderr)
            return FAILED
        answer(stream, {"workdir": str(workdir.path), **result}, options.json)
        _point_at(workdir.path)
    return DONE


def _point_at(path: Path) -> None:
    for picture in sorted((path / "report").glob("*.png")):
        print(f"see {picture}", file=sys.stderr)
