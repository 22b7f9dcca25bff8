"""`contrastive-jax bench input`: examples a second through decode, views and batching."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_jax.configuration import nearest
from contrastive_jax.errors import CommandError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contrastive_jax.benchmarks.inputs import Setting
    from contrastive_jax.data.records import Source

_PEER, _TARS = "webdataset", "webdataset:"
_MADE = 2048  # records, where no source is named
_SETTINGS = ("batch", "workers", "resolution", "runs", "seconds")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What the command prints."""
    from contrastive_jax.benchmarks.inputs import Setting
    from contrastive_jax.data.reading import ReaderFailed

    _check_peer(options)
    given = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    try:
        if options.config:
            setting, source, figures = _of_config(options, given)
        else:
            setting = Setting(**given)
            source, figures = _of_source(options, setting)
    except ReaderFailed as error:
        raise CommandError(str(error)) from error
    asked = {name: value for name, value in dataclasses.asdict(setting).items() if name in _SETTINGS}
    return {"source": source, **asked, **figures}


def _of_source(options: argparse.Namespace, setting: Setting) -> tuple[str, dict[str, Any]]:
    from contrastive_jax.benchmarks import inputs
    from contrastive_jax.benchmarks.pictures import write_tars
    from contrastive_jax.data import files
    from contrastive_jax.data.sources import open_source

    with ExitStack() as stack:
        spec, said = options.source, options.source
        if spec is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="contrastive-jax-bench-"))
            try:
                spec = _TARS + write_tars(Path(folder), _MADE)
            except OSError as error:
                raise CommandError(f"{folder}: {error.strerror or error}; set TMPDIR to another") from error
            said = f"{_MADE} records with made-up JPEG files of 500 x 375 pixels"
        source = open_source(spec)
        measured = inputs.standard_views(source, setting)
        if not measured:
            raise InputError(f"--source {spec}: its records have neither 'image' nor 'text'")
        tars = files.expand(spec.removeprefix(_TARS), ".tar") if options.against else None
        python = options.peer_python or sys.executable
        figures = inputs.measure(source, measured, setting, tars=tars, python=python)
        return said, {"records": len(source), **figures}


def _of_config(options: argparse.Namespace, given: dict[str, Any]) -> tuple[Setting, str, dict[str, Any]]:
    """All views of a config together, of the records that its sampler draws."""
    from contrastive_jax.benchmarks import inputs
    from contrastive_jax.configuration import build, load
    from contrastive_jax.data.sources import open_source
    from contrastive_jax.data.views.text import Text, strings
    from contrastive_jax.training.schema import Config

    config = build(load(options.config, options.overrides, Config), Config)
    setting = inputs.Setting(**{"batch": config.batch_size, "workers": config.data.workers, **given})
    spec = options.source or config.data.source
    source, views = open_source(spec), dict(config.data.views)
    texts = {name: view for name, view in views.items() if isinstance(view, Text)}
    if texts:
        fields = sorted({field for view in texts.values() for field in view.fields})
        captions = (text for field in fields for text in strings(_column(source, field)))
        tokenizer = config.data.tokenizer.train(captions)
        views |= {name: view.bind(tokenizer) for name, view in texts.items()}
    figures = inputs.measure(source, {"examples": views}, setting, sampler=config.data.sampler)
    return setting, spec, {"records": len(source), **figures}


def _column(source: Source, field: str) -> Sequence[Any]:
    try:
        return source.column(field)
    except KeyError:
        raise InputError(f"a text view reads the field {field!r}, and {source.name} has none") from None


def _check_peer(options: argparse.Namespace) -> None:
    """Raises InputError for a peer that is unknown, is not installed, or could not do the same work."""
    from contrastive_jax.benchmarks.peers import Peer, check_installed

    if not options.against:
        return
    if options.against != _PEER:
        raise InputError(f"--against {options.against}: {nearest(options.against, [_PEER])}")
    if options.config:
        raise InputError(f"--against {_PEER} with --config: it has no views of ours; leave one of them out")
    if options.source and not options.source.startswith(_TARS):
        raise InputError(f"--against {_PEER}: it reads {_TARS}PATTERN, and --source is {options.source}")
    check_installed({_PEER: Peer((), _PEER, _PEER)}, options.peer_python)
