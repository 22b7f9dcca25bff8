"""A trained model, as everything that writes one out takes it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from contrastive_jax.errors import InputError

if TYPE_CHECKING:
    import jax
    from jaxtyping import Array, Float, PyTree

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vocabulary:
    """A text tokenizer.

    json: what the `tokenizers` library writes, which adds `begin` and `end` by itself. length: the most
    tokens of a text. begin, end, padding, unknown: special tokens, None where it has none.
    """

    json: str
    length: int
    begin: str | None = None
    end: str | None = None
    padding: str | None = None
    unknown: str | None = None

    def id(self, token: str | None) -> int | None:
        """A token's id; None for none."""
        import tokenizers

        return None if token is None else tokenizers.Tokenizer.from_str(self.json).token_to_id(token)


@dataclass(frozen=True)
class Model:
    """What there is to write.

    encoders, heads, branches: by name, as a config builds them (a branch: view, encoder, heads,
    normalize). params: {"encoders", "heads", "losses"}, any low-rank parts merged. views: the shape and
    dtype of one example of each view. embed: (params, branch, view [B, ...]) -> embeddings [B, d].
    mean, std: by which a view of pictures was normalised already, None if the encoder does that.
    squeeze: whether a picture is resized to a square, whatever its own sides; else its middle is taken.
    scale, bias: the factor of cosines in the loss, and what is added to them.
    vocabulary: the text tokenizer. card: what the model card says: config, step, metrics.
    """

    encoders: Mapping[str, Any]
    heads: Mapping[str, Any]
    branches: Mapping[str, Any]
    params: PyTree[Float[Array, "..."]]
    views: Mapping[str, jax.ShapeDtypeStruct]
    embed: Callable[[PyTree, str, Array], Float[Array, "B d"]]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    squeeze: bool = False
    scale: float | None = None
    bias: float | None = None
    vocabulary: Vocabulary | None = None
    card: Mapping[str, Any] = field(default_factory=dict)

    def tower(self, part: str) -> Tower | None:
        """The one encoder of pictures (`image`: views [H, W, C]) or text (`text`: [L]), with its projection.

        None if there is none. Raises InputError if there are several.
        """
        dimensions = {"image": 3, "text": 1}[part]
        towers = {
            branch.encoder: (name, branch)
            for name, branch in reversed(self.branches.items())
            if len(self.views[branch.view].shape) == dimensions
        }
        if len(towers) > 1:
            several = ", ".join(sorted(towers))
            raise InputError(f"the model has several {part} encoders ({several}): this format holds one")
        for encoder, (name, branch) in towers.items():
            heads = [(head, self.heads[head], self.params["heads"][head]) for head in branch.heads]
            params, view = self.params["encoders"][encoder], self.views[branch.view]
            return Tower(part, name, encoder, self.encoders[encoder], params, heads, view)
        return None


@dataclass(frozen=True)
class Tower:
    """part: `image` or `text`; branch, name: those of the branch and its encoder; heads: (name, head,
    parameters) in order; view: the shape and dtype of one example."""

    part: str
    branch: str
    name: str
    encoder: Any
    params: PyTree[Float[Array, "..."]]
    heads: list[tuple[str, Any, Any]]
    view: jax.ShapeDtypeStruct


def logits(model: Model, format: str, has_bias: bool) -> tuple[float, float]:
    """The logarithm of the scale, and the bias; the log names what the format or the model has not."""
    if model.scale is None:
        log.warning("%s: no loss here has a scale: logit_scale is that of 1", format)
    if model.bias is not None and not has_bias:
        log.warning(
            "%s has no logit_bias: the loss's bias of %.6g is in the model card alone; cosines and what is "
            "ranked by them are as they were, logits are not",
            format,
            model.bias,
        )
    if model.bias is None and has_bias:
        log.warning(
            "%s: the loss here has no bias: logit_bias is 0, and a sigmoid of the logits is no probability",
            format,
        )
    return math.log(1.0 if model.scale is None else model.scale), model.bias or 0.0


class Wants:
    """Collects what a format cannot express, to say it at once."""

    def __init__(self, format: str) -> None:
        self.format, self.found = format, []

    def equal(self, key: str, value: Any, wanted: Any) -> None:
        """Notes that a config key must have this value, or one of a tuple of values."""
        if value not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            options = " or ".join(map(repr, wanted)) if isinstance(wanted, tuple) else repr(wanted)
            self.found.append(f"config.{key}={value!r} (it wants {options})")

    def check(self) -> None:
        """Raises InputError if anything was noted."""
        if self.found:
            raise InputError(f"{self.format} cannot hold this model: {'; '.join(self.found)}")
