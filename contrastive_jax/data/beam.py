"""The shards of `preparation`, written by an Apache Beam pipeline: as many machines as its runner has.

Every worker opens the source by its spec and writes into the folder, so both must be reachable from all
of them: a shared file system, and for the source an object store as well.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from contrastive_jax.data.shards import Plan, write_shard
from contrastive_jax.errors import CommandError, InputError


def run_pipeline(plan: Plan, folder: Path, shards: Sequence[int], options: Sequence[str]) -> None:
    """Writes these shards.

    Args:
        options: NAME=VALUE each, of the pipeline, such as runner=FlinkRunner.

    Raises:
        InputError: Beam is not installed, an option is not known to it, or a record cannot be written.
        CommandError: the pipeline failed; what is done stays.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise InputError(f"--runner beam: {error}; pip install 'contrastive-jax[beam]'") from error
    write = functools.partial(write_shard, plan, os.path.abspath(folder))
    try:
        with beam.Pipeline(options=_options(options)) as pipeline:
            _ = (
                pipeline
                | "shards" >> beam.Create(list(shards))
                | "spread" >> beam.Reshuffle()
                | "write" >> beam.Map(write)
            )
    except InputError:
        raise
    except Exception as error:  # runners raise what they like
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise CommandError(
            f"the pipeline failed ({lines[-1].strip()}); run the same command again to go on"
        ) from error


def _options(given: Sequence[str]):
    from apache_beam.options.pipeline_options import PipelineOptions

    for option in given:
        if not option.partition("=")[0].replace("_", "").isalnum():
            raise InputError(f"--beam-option {option}: give NAME=VALUE, such as runner=DirectRunner")
    flags = [f"--{option}" for option in given]
    try:
        options = PipelineOptions(flags, save_main_session=False)
        known = {flag.partition("=")[0].lstrip("-") for flag in flags}
        unknown = known - options.get_all_options(drop_default=False).keys()
    except SystemExit:
        raise InputError(f"--beam-option {' '.join(given)}: Beam refuses it") from None
    if unknown:
        raise InputError(f"--beam-option {min(unknown)}: unknown to Beam")
    return options
