"""`contrastive-jax export`: the model of a work directory in the format of another library."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrastive_jax.commands.output import answer, reserved_stdout
from contrastive_jax.errors import DONE, CommandError

if TYPE_CHECKING:
    from contrastive_jax.interop import Model, Vocabulary
    from contrastive_jax.training.stores.paths import StorePath
    from contrastive_jax.training.trained import Trained


def run(options: argparse.Namespace) -> int:
    """The exit code of the command."""
    with reserved_stdout() as stream:
        from contrastive_jax import interop
        from contrastive_jax.training.trained import open_trained

        trained = open_trained(options.workdir, options.step)
        try:
            written = interop.save(options.format, model(trained), options.output)
        except OSError as error:
            raise CommandError(f"--output {options.output}: {error.strerror or error}") from error
        answer(stream, {"workdir": str(trained.path), "step": trained.step, **written}, options.json)
        return DONE


def model(trained: Trained) -> Model:
    """What there is to write of a work directory's model."""
    import jax

    from contrastive_jax.interop import Model

    graph = trained.experiment.graph
    params = jax.device_get(trained.params)
    views = trained.views

    def embed(params, branch, batch):
        encoded = graph.encode(params, branch, batch, train=False, key=None)
        return graph.finish(params, branch, encoded, train=False, key=None)

    return Model(
        encoders=graph.encoders,
        heads=graph.heads,
        branches=graph.branches,
        params=params,
        views=graph.views,
        embed=embed,
        vocabulary=_vocabulary(trained.path, views),
        card=_card(trained),
        **_pixels(views),
        **_scale(trained, params["losses"]),
    )


def _pixels(views: dict[str, Any]) -> dict[str, Any]:
    """How the view of pictures looks at them."""
    for view in views.values():
        if getattr(view, "resolution", None):
            normalized = {"mean": tuple(view.mean), "std": tuple(view.std)} if view.std else {}
            return {"squeeze": view.squeeze, **normalized}
    return {}


def _scale(trained: Trained, params: dict[str, Any]) -> dict[str, float]:
    """The factor and the bias of the first loss that has a scale, be it inside another one."""
    for name, loss in trained.experiment.losses.items():
        loss = getattr(loss, "loss", loss)
        if hasattr(loss, "scale_of"):
            found = {"scale": float(loss.scale_of(params[name]))}
            return found | ({"bias": float(params[name]["bias"])} if "bias" in params[name] else {})
    return {}


def _vocabulary(path: Path | StorePath, views: dict[str, Any]) -> Vocabulary | None:
    """The tokenizer, if it is one of the `tokenizers` library, with its special tokens by name."""
    import tokenizers

    from contrastive_jax.interop import Vocabulary

    texts = [view for view in views.values() if getattr(view, "tokenizer", None) is not None]
    if not texts:
        return None
    text = (path / "tokenizer.json").read_text(encoding="utf-8")
    content = json.loads(text)
    if "sentencepiece" in content:
        return None
    tokenizer, name = texts[0].tokenizer, tokenizers.Tokenizer.from_str(text).id_to_token
    return Vocabulary(
        text,
        length=max(view.length for view in texts),
        begin=name(tokenizer.begin[0]) if tokenizer.begin else None,
        end=name(tokenizer.end[-1]) if tokenizer.end else None,
        padding=name(tokenizer.padding),
        unknown=content["model"].get("unk_token"),
    )


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
