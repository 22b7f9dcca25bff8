"""Evaluators, one contract: `run(embed, source) -> Iterator[(metric name, value)]`.

Each names the `branches` that it embeds and the `fields` that it reads of the source's records.
"""

from contrastive_jax.evaluation.geometry import Geometry
from contrastive_jax.evaluation.retrieval import Retrieval
from contrastive_jax.evaluation.zero_shot import ZeroShot

KINDS = {"retrieval": Retrieval, "zero_shot": ZeroShot, "geometry": Geometry}

__all__ = ["KINDS", "Geometry", "Retrieval", "ZeroShot"]
