"""`contrastive-jax embed`: the embeddings of a source's records, in a file; a kill costs one part."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from contrastive_jax.commands.output import answer, progress, reserved_stdout
from contrastive_jax.errors import DONE, STOPPED_EARLY, CommandError, InputError

_NOT_SHOWN = ("scale", "offset", "model", "format", "data")


class _Stopped(Exception):  # noqa: N818
    """A signal asked for it."""


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        from contrastive_jax.distributed.stopping import StopRequest
        from contrastive_jax.locking import held

        output = _checked_output(Path(options.output))
        with StopRequest() as stop:
            try:
                with held(output, f"--output {output}"):
                    metadata = _embed(options, output, stop)
            except _Stopped:
                print(f"{stop.requested}: run the same command again to go on", file=sys.stderr)
                return STOPPED_EARLY
            except OSError as error:
                raise CommandError(f"{output}: {error.strerror or error}") from error
        figures = {name: value for name, value in metadata.items() if name not in _NOT_SHOWN}
        answer(stream, {"output": str(output), **figures}, options.json)
        return DONE


def _checked_output(output: Path) -> Path:
    from contrastive_jax.evaluation.embeddings import ENDINGS

    if output.suffix not in ENDINGS:
        raise InputError(f"--output {output}: give a file that ends in {' or '.join(ENDINGS)}")
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}")
    return output


def _embed(options, output: Path, stop) -> dict[str, Any]:
    import jax

    from contrastive_jax.data.contents import as_json
    from contrastive_jax.data.sources import open_source
    from contrastive_jax.evaluation.parts import put_together
    from contrastive_jax.training.fingerprint import fingerprint
    from contrastive_jax.training.stores.paths import place
    from contrastive_jax.training.trained import open_experiment, restore

    path = place(options.workdir)
    experiment = open_experiment(path)
    check_branch("--branch", options.branch, experiment)
    source = open_source(options.source)
    check_source("--source", source, options.branch, experiment)
    trained = restore(path, experiment, options.step)
    plan = {
        "workdir": str(path),
        "step": trained.step,
        "model": fingerprint(trained),
        "branch": options.branch,
    }
    plan |= {"source": options.source, "source_records": len(source), "data": as_json(source.contents())}
    parts = output.with_name(f"{output.name}.parts")
    if (there := _finished(output, {**plan, "dtype": options.dtype})) is not None:
        print(f"{output} is finished", file=sys.stderr)
        shutil.rmtree(parts, ignore_errors=True)  # of a run that was killed just then
        return there
    with jax.set_mesh(experiment.mesh):
        _write_parts(trained.embedder(options.batch), options, source, parts, plan, stop)
        metadata = put_together(parts, output, plan, options.dtype, experiment.mesh)
    shutil.rmtree(parts)
    return metadata


def check_branch(flag: str, name: str, experiment) -> None:
    """Raises InputError for what is neither a branch nor a stage of one."""
    from contrastive_jax.evaluation.embedding import staged

    try:
        staged(experiment.graph, name)
    except InputError as error:
        raise InputError(f"{flag} {name}: {error}") from error


def check_source(flag: str, source, branch: str, experiment) -> None:
    """Raises InputError for a source whose records lack what the view of a branch reads of them."""
    from contrastive_jax.evaluation.embedding import staged
    from contrastive_jax.training.checks import check_fields, view_fields

    graph = experiment.graph
    view = graph.branches[staged(graph, branch)[0]].view
    wanted = view_fields(f"config.data.views.{view}", experiment.config.data.views[view])
    check_fields(source, [(f"{flag}, which branch {branch} reads by {key}", name) for key, name in wanted])


def _finished(output: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
    """The metadata of what is there, if it is what is wanted; None where nothing is."""
    from contrastive_jax.evaluation.embeddings import Embeddings
    from contrastive_jax.evaluation.parts import check_same

    if not output.exists() or (output.suffix == ".npy" and not output.with_suffix(".json").exists()):
        return None
    there = Embeddings(output).metadata
    check_same(f"--output {output}", plan, there)
    return there


def _write_parts(embed, options, source, folder: Path, plan: dict[str, Any], stop) -> None:
    from contrastive_jax.evaluation.bulk import Bulk
    from contrastive_jax.evaluation.parts import write_parts

    with progress("records", len(source)) as advance:

        def between(count: int) -> None:
            advance(count)
            if stop.requested:
                raise _Stopped

        bulk = Bulk(embed, options.branch, source, between)
        try:
            write_parts(folder, plan, range(len(source)), bulk, options.part, advance)
        finally:
            bulk.close()
