"""The model of a work directory: what one of its checkpoints holds, ready to embed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from contrastive_jax.configuration import build, complete
from contrastive_jax.errors import CommandError, InputError
from contrastive_jax.evaluation.embedding import Embedder
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.evaluations import bind_tokenizer
from contrastive_jax.training.experiment import Config, Experiment
from contrastive_jax.training.manifest import CheckpointError
from contrastive_jax.training.stored_json import parsed
from contrastive_jax.training.stores.paths import StorePath, content, place

if TYPE_CHECKING:
    from jaxtyping import PyTree

BATCH_SIZE = 512  # of a run whose config evaluates nothing
_READ = "params", "teachers", "statistics"


@dataclass(frozen=True)
class Trained:
    """A model as it was after `step` updates. views: with the tokenizer that they need; params: {"encoders",
    "heads", "losses"}, with "teachers" and "statistics", on the devices of `experiment.mesh`."""

    path: Path | StorePath
    step: int
    experiment: Experiment
    views: Mapping[str, Any]
    params: PyTree

    def embedder(self, batch_size: int | None = None) -> Embedder:
        """Embeds records, `batch_size` at a time (None: as the config evaluates); to be called under
        `jax.set_mesh(trained.experiment.mesh)`."""
        evaluation = self.experiment.config.evaluation
        size = batch_size or (evaluation.batch_size if evaluation else BATCH_SIZE)
        return Embedder(self.experiment.graph, self.views, self.params, self.experiment.mesh, size)


def open_trained(path: str | Path | StorePath, step: int | None = None) -> Trained:
    """The model that a work directory's checkpoint of `step` holds, or its newest intact one.

    Nothing in the folder is changed. The devices that are here share the batch, whatever mesh it was
    trained on.

    Raises:
        InputError: there is no run, its config is not one of this version, it has no such checkpoint, or
            that one is damaged.
        CommandError: it has checkpoints, and all of them are damaged.
    """
    path = place(path)
    return restore(path, open_experiment(path), step)


def open_experiment(path: Path | StorePath) -> Experiment:
    """The config of a work directory, built for evaluation on the devices that are here.

    Raises:
        InputError: there is no run, or its config is not one of this version.
    """
    stored = stored_config(path)
    try:
        complete(stored, Config)
        stored.mesh.update(data=-1, fsdp=1, tensor=1)
        return Experiment(build(stored, Config), training=False)
    except InputError as error:
        raise InputError(f"--workdir {path}: {error}") from error


def restore(path: Path | StorePath, experiment: Experiment, step: int | None = None) -> Trained:
    """The checkpoint of an experiment that `open_experiment` opened; see `open_trained`."""
    wanted = {name: getattr(experiment.state_structure, name) for name in _READ}
    try:
        with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
            restored = checkpoints.restore(wanted, step, partial=True)
    except (CheckpointError, OSError) as error:
        raise CommandError(str(error)) from error
    if restored is None:
        raise InputError(f"--workdir {path}: no checkpoint yet; train first")
    found, state, _ = restored
    model = experiment.model(*(state[name] for name in _READ))
    return Trained(path, found, experiment, bind_tokenizer(experiment, path), model)


def stored_config(path: Path | StorePath) -> ConfigDict:
    """The config in a work directory, as it is there; InputError where there is none."""
    try:
        found = content(path / "config.json")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--workdir {path}: no run there (config.json cannot be read: {reason})") from error
    stored = parsed(found, f"--workdir {path}: config.json", "there is no run there")
    try:
        return ConfigDict(stored)
    except ValueError as error:  # a name with a dot
        raise InputError(f"--workdir {path}: config.json is no run's ({error})") from error
