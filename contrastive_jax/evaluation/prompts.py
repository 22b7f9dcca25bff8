"""What texts call the classes of a source, and the embeddings of their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from contrastive_jax.data.records import Source
from contrastive_jax.data.views.text import strings
from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.columns import column
from contrastive_jax.evaluation.labelled import unit_rows

if TYPE_CHECKING:
    from jaxtyping import Float

    from contrastive_jax.evaluation.embedding import Embedder


def check_templates(templates: Sequence[str]) -> None:
    """Raises InputError for one without a place for the name, or for none."""
    if not templates or any("{}" not in template for template in templates):
        raise InputError(f"templates={templates}: give texts with {{}} in each")


def called(source: Source, given: np.ndarray, classes: Sequence[Any], field: str | None) -> list[str]:
    """What prompts call each class: the class itself, or what its first record has in `field`, the first
    of a list. given: the class of each record."""
    if field is None:
        return [str(name) for name in classes]
    words, found = column(source, field), []
    for name in classes:
        record = int(np.flatnonzero(given == name)[0])
        word = next(filter(None, strings([words[record]])), None)
        if word is None:
            raise InputError(f"{source.name}, record {record}: {field!r} holds no text to call {name!r} by")
        found.append(word)
    return found


def prompted(
    embed: Embedder, branch: str, names: Sequence[str], templates: Sequence[str]
) -> Float[np.ndarray, "c d"]:
    """Each name's mean of its prompts' embeddings, all of unit length."""
    prompts = [template.replace("{}", name) for name in names for template in templates]
    each = unit_rows(embed.texts(branch, prompts))
    return unit_rows(each.reshape(len(names), len(templates), -1).mean(axis=1))
