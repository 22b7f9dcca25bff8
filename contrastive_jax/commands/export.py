"""`contrastive-jax export`: the model of a work directory in the format of another library."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from contrastive_jax.commands.output import answer, reserved_stdout
from contrastive_jax.errors import DONE, CommandError, InputError

if TYPE_CHECKING:
    from contrastive_jax.training.trained import Trained


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        import jax

        from contrastive_jax import interop
        from contrastive_jax.training.exporting import model
        from contrastive_jax.training.trained import open_trained

        trained = open_trained(options.workdir, options.step)
        params, card = jax.device_get(trained.params), _card(trained)
        branches = options.branch or ()
        try:
            made = model(trained.experiment, trained.views, params, trained.path, branches, card)
        except InputError as error:
            raise InputError(f"--branch: {error}") from error
        try:
            written = interop.save(options.format, made, options.output)
        except OSError as error:
            raise CommandError(f"--output {options.output}: {error.strerror or error}") from error
        answer(stream, {"workdir": str(trained.path), "step": trained.step, **written}, options.json)
        return DONE


def _card(trained: Trained) -> dict[str, Any]:
    """What the model card says: the run's config, and the metrics of its end if this is its last step."""
    from contrastive_jax.training.trained import stored_config
    from contrastive_jax.training.workdir import finished

    config = stored_config(trained.path).to_dict()
    found = {"step": trained.step, "data": config["data"]["source"], "config": config}
    metrics = finished(trained.path) or {}
    if metrics.get("step") == trained.step:
        found["metrics"] = {name: value for name, value in metrics.items() if name != "step"}
    return found
