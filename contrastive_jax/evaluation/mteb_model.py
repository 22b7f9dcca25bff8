"""A model as mteb takes it, so that its tasks run on a checkpoint of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from contrastive_jax.errors import InputError
from contrastive_jax.evaluation.labelled import unit_rows
from contrastive_jax.evaluation.libraries import library

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jaxtyping import Float

    from contrastive_jax.evaluation.embedding import Embedder


class MTEBModel:
    """mteb's encoder protocol (2.x) for branches that read texts: `mteb.evaluate(MTEBModel(...), tasks)`.

    mteb brings torch, so it is best installed beside this package in an environment of its own.

    Args:
        embed: such as `open_trained(workdir).embedder()`.
        branch: embeds the texts.
        documents: embeds those that mteb calls documents (None: the same branch).
        name: `organisation/model`, under which mteb keeps the results; revision: of that model.

    Raises:
        InputError: mteb is not installed; or, of `encode`, a task gives something else than texts.
    """

    def __init__(
        self,
        embed: Embedder,
        branch: str,
        documents: str | None = None,
        name: str = "contrastive-jax/local",
        revision: str = "local",
    ):
        self.embed, self.branches = embed, {"document": documents or branch}
        self.branch = branch
        meta = library("mteb.models.model_meta")
        self.mteb_model_meta = meta.ModelMeta.create_empty(
            {
                "name": name,
                "revision": revision,
                "framework": [],
                "similarity_fn_name": meta.ScoringFunction.COSINE,
                "modalities": ["text"],
            }
        )

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **keywords: Any,
    ) -> Float[np.ndarray, "n d"]:
        """The embeddings of all texts of the batches; a document's is its title and text."""
        texts = []
        for batch in inputs:
            if "text" not in batch:
                raise InputError(f"mteb gives {', '.join(batch)} and no text: only texts are embedded")
            texts += [text if isinstance(text, str) else " ".join(text) for text in batch["text"]]
        branch = self.branches.get(getattr(prompt_type, "value", prompt_type), self.branch)
        with jax.set_mesh(self.embed.mesh):
            return self.embed.texts(branch, texts)

    def similarity(self, first: Any, second: Any) -> Any:
        """Cosines of all with all: a torch tensor [n, m]."""
        a, b = _unit(first), _unit(second)
        return library("torch").from_numpy(a @ b.T)

    def similarity_pairwise(self, first: Any, second: Any) -> Any:
        """Cosines of each with its partner: a torch tensor [n]."""
        return library("torch").from_numpy(np.sum(_unit(first) * _unit(second), axis=-1))


def _unit(z: Any) -> Float[np.ndarray, "n d"]:
    """Rows of unit length; mteb calls with torch tensors, arrays, or a single row."""
    return unit_rows(np.atleast_2d(np.asarray(z, np.float32)))
