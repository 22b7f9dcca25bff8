"""`contrastive-jax train`: trains, or resumes what is there."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator

from contrastive_jax.commands.output import answer, reserved_stdout
from contrastive_jax.errors import DONE, FAILED, STOPPED_EARLY, WRONG_INPUT, CommandError, InputError


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    from contrastive_jax.training.clock import Clock

    clock = Clock()
    with reserved_stdout() as stream:
        from contrastive_jax.distributed.stopping import StopRequest

        with StopRequest() as stop:
            return _start(options, stop, stream, clock)


def _start(options, stop, stream, clock) -> int:
    """Everything before the other processes are known."""
    from contrastive_jax.configuration import build, load
    from contrastive_jax.distributed.joining import join
    from contrastive_jax.training.profiling import parse_window
    from contrastive_jax.training.schema import Config

    profile = parse_window(options.profile) if options.profile is not None else None
    place = _place(options)
    stored = (
        load(options.config, options.overrides, Config)
        if options.config is not None
        else _of_the_run(options)
    )
    config = build(stored, Config)
    try:
        with (
            join(place, config.processes, lambda: _check_stop(stop)) as group,
            _failing_together(group),
        ):
            if not group.first:
                logging.getLogger("contrastive_jax").setLevel(logging.WARNING)
            return _train(options, config, json.loads(stored.to_json()), stop, stream, clock, group, profile)
    except _StoppedAlone as signal:
        print(f"{signal}: not all processes had come; run the same command again", file=sys.stderr)
        return STOPPED_EARLY


def _of_the_run(options):
    """The config of the run in the work directory, with what the command line gives."""
    from ml_collections import ConfigDict

    from contrastive_jax.configuration import overridden
    from contrastive_jax.training.schema import Config
    from contrastive_jax.training.stores.paths import place
    from contrastive_jax.training.trained import stored_config

    try:
        stored = stored_config(place(options.workdir))
    except InputError as error:
        raise InputError(f"{error}; a new run is begun by --config FILE") from error
    return overridden(ConfigDict(_completed(stored.to_dict())), options.overrides, Config)


class _StoppedAlone(Exception):  # noqa: N818
    """A signal came while the other processes were waited for."""


def _check_stop(stop) -> None:
    if stop.requested:
        raise _StoppedAlone(stop.requested)


def _train(options, config, stored, stop, stream, clock, group, profile) -> int:
    from contrastive_jax.training.advance import Stopped, StoppedInStep
    from contrastive_jax.training.agreement import check_same_folder
    from contrastive_jax.training.loop import Run
    from contrastive_jax.training.program_cache import kept_programs, programs_folder
    from contrastive_jax.training.workdir import finished, stored_steps

    path, experiment, data, stored = _checked(options, config, stored, group)
    before = group.tell(stored_steps(path) if group.first else None)
    with _workdir(path, stored, options.extend, group, data.check):
        check_same_folder(group, path)
        result = group.tell(finished(path) if group.first else None)
        try:
            if result is None:
                data.agree(group)
                if group.first:
                    data.note()
                with kept_programs(programs_folder(path)):
                    result = Run(experiment, path, stop, group, clock, profile, before)()
            elif group.first:
                print(f"{path} is finished: {result['step']} steps", file=sys.stderr)
        except Stopped as signal:
            if group.first:
                print(f"{signal}: saved in {path}; run the same command again to go on", file=sys.stderr)
            if isinstance(signal, StoppedInStep):
                # The interpreter would wait for the program under way, for minutes in a huge step.
                atexit.register(os._exit, STOPPED_EARLY)
            return STOPPED_EARLY
        if group.first:
            answer(stream, {"workdir": str(path), **result}, options.json)
            _point_at(path)
    return DONE


def _checked(options, config, stored, group) -> tuple:
    """(work directory, experiment, its data, stored config) of all processes, with nothing written yet."""
    from contrastive_jax.training.agreement import check_same_run
    from contrastive_jax.training.evaluated_texts import check_texts
    from contrastive_jax.training.experiment import Experiment
    from contrastive_jax.training.provenance import Provenance
    from contrastive_jax.training.stores.paths import place
    from contrastive_jax.training.workdir import begun

    check_same_run(group, stored)
    path = place(options.workdir)
    new = group.tell(not begun(path) if group.first else None)
    config, stored = _in_order(config, stored, path, group, new)
    experiment = Experiment(config)
    data = Provenance(experiment, path, options.accept_changed_data and not new)
    if new:
        # First, so that no work directory stays behind that holds a wrong source, or wrong weights.
        experiment.check_data()
        check_texts(experiment)
        experiment.find_starts(group)
        data.agree(group)
    return path, experiment, data, stored


@contextlib.contextmanager
def _failing_together(group) -> Iterator[None]:
    """What ends one process by an error ends the others too, with the same code and one line each."""
    import jax

    from contrastive_jax.data.reading import ReaderFailed
    from contrastive_jax.distributed.coordination import ProcessLost
    from contrastive_jax.training.manifest import CheckpointError
    from contrastive_jax.training.step_metrics import NonFiniteLoss

    try:
        yield
    except InputError as error:
        group.fail(str(error), WRONG_INPUT)
        raise
    except (NonFiniteLoss, CheckpointError, ReaderFailed, ProcessLost, CommandError, OSError) as error:
        group.fail(str(error), FAILED)
        raise CommandError(str(error)) from error
    except Exception as error:
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            group.lost()
        group.fail(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}", FAILED)
        raise


@contextlib.contextmanager
def _workdir(path, config, extend: bool, group, unchanged) -> Iterator[None]:
    """The work directory, opened and held by process 0."""
    from contrastive_jax.training.workdir import open_workdir

    opened = contextlib.nullcontext()
    if group.first:
        opened = open_workdir(path, config, extend, _completed, unchanged)
    with opened:
        yield


def _in_order(config, stored: dict, path, group, new: bool = False) -> tuple:
    """A config and what is stored of it, whose order is that of the folder's run where none is given."""
    from contrastive_jax.data.walks import ORDERS
    from contrastive_jax.training.workdir import stored_config

    there = _completed(stored_config(path)).get("data") if group.first and not new else None
    begun = group.tell(there["order"] if isinstance(there, dict) else None)
    order = config.data.order
    if order is None:
        order = begun if begun in ORDERS else ORDERS[-1]
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, order=order))
    return config, stored | {"data": stored["data"] | {"order": order}}


def _completed(stored: dict) -> dict:
    """A run's config with the defaults of keys that are newer than it; as it is where it does not fit."""
    from ml_collections import ConfigDict

    from contrastive_jax.configuration import complete
    from contrastive_jax.data.walks import ORDERS
    from contrastive_jax.training.schema import Config

    if isinstance(stored.get("data"), dict):
        stored = stored | {"data": {"order": ORDERS[0]} | stored["data"]}
    try:
        config = ConfigDict(stored)
        complete(config, Config)
    except ValueError:  # what it says of a name with a dot, and what is wrong with the config
        return stored
    return config.to_dict()


def _place(options):
    """What --coordinator, --processes and --process-id say: all of them, or none."""
    from contrastive_jax.distributed.joining import Place

    given = {
        "--coordinator": options.coordinator,
        "--processes": options.processes,
        "--process-id": options.process_id,
    }
    if all(value is None for value in given.values()):
        return None
    for name, value in given.items():
        if value is None:
            others = " and ".join(other for other in given if given[other] is not None)
            raise InputError(
                f"{others} without {name}: give all three, or none to find out from the launcher"
            )
    return Place(*given.values())


def _point_at(path) -> None:
    for picture in sorted((path / "report").glob("*.png"), key=str):
        print(f"see {picture}", file=sys.stderr)
