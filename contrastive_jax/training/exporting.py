"""A trained model as the formats of other libraries take it; and whether they could, before it is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax import interop
from contrastive_jax.configuration import nearest
from contrastive_jax.errors import InputError
from contrastive_jax.interop.writing import check
from contrastive_jax.training.experiment import Experiment
from contrastive_jax.training.stores.paths import StorePath

if TYPE_CHECKING:
    from jaxtyping import PyTree

    from contrastive_jax.interop import Model, Vocabulary


def model(
    experiment: Experiment,
    views: Mapping[str, Any],
    params: PyTree,
    path: Path | StorePath,
    branches: Sequence[str] = (),
    card: Mapping[str, Any] | None = None,
) -> Model:
    """What there is to write of a model.

    Args:
      views: with the tokenizer, which lies in `path`, the work directory.
      params: {"encoders", "heads", "losses"}, on the host.
      branches: those that are written; none: all.
      card: what the model card says.

    Raises:
      InputError: there is no such branch.
    """
    graph = experiment.graph
    for name in branches:
        if name not in graph.branches:
            raise InputError(f"branch {name!r} is unknown; {nearest(name, graph.branches)}")

    def embed(params, branch, batch):
        encoded = graph.encode(params, branch, batch, train=False, key=None)
        return graph.finish(params, branch, encoded, train=False, key=None)

    return interop.Model(
        encoders=graph.encoders,
        heads=graph.heads,
        branches={name: graph.branches[name] for name in branches or graph.branches},
        params=params,
        views=graph.views,
        embed=embed,
        vocabulary=_vocabulary(path, views),
        card=card or {},
        **_pixels(views),
        **_scale(experiment, params["losses"]),
    )


def check_exports(experiment: Experiment, views: Mapping[str, Any], path: Path | StorePath) -> None:
    """Raises InputError where a format that `config.export` names cannot hold the model."""
    if not experiment.config.export:
        return
    shapes = experiment.state_structure

    def zeros(tree):
        return jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), tree)

    params = experiment.model(*(zeros(tree) for tree in (shapes.params, shapes.teachers, shapes.statistics)))
    for text in experiment.config.export:
        format, _, names = text.partition(":")
        try:
            check(format, model(experiment, views, params, path, names.split("+") if names else ()))
        except InputError as error:
            raise InputError(f"config.export={text}: {error}") from error


def _pixels(views: dict[str, Any]) -> dict[str, Any]:
    """How the view of pictures looks at them."""
    for view in views.values():
        if getattr(view, "resolution", None):
            normalized = {"mean": tuple(view.mean), "std": tuple(view.std)} if view.std else {}
            return {"squeeze": view.squeeze, **normalized}
    return {}


def _scale(experiment: Experiment, params: dict[str, Any]) -> dict[str, float]:
    """The factor and the bias of the first loss that has a scale, be it inside another one."""
    for name, loss in experiment.losses.items():
        loss = getattr(loss, "loss", loss)
        if hasattr(loss, "scale_of"):
            found = {"scale": float(loss.scale_of(params[name]))}
            return found | ({"bias": float(params[name]["bias"])} if "bias" in params[name] else {})
    return {}


def _vocabulary(path: Path | StorePath, views: dict[str, Any]) -> Vocabulary | None:
    """The tokenizer, if it is one of the `tokenizers` library, with its special tokens by name."""
    import tokenizers

    texts = [view for view in views.values() if getattr(view, "tokenizer", None) is not None]
    if not texts:
        return None
    text = (path / "tokenizer.json").read_text(encoding="utf-8")
    content = json.loads(text)
    if "sentencepiece" in content:
        return None
    tokenizer, name = texts[0].tokenizer, tokenizers.Tokenizer.from_str(text).id_to_token
    return interop.Vocabulary(
        text,
        length=max(view.length for view in texts),
        begin=name(tokenizer.begin[0]) if tokenizer.begin else None,
        end=name(tokenizer.end[-1]) if tokenizer.end else None,
        padding=name(tokenizer.padding),
        unknown=content["model"].get("unk_token"),
    )
