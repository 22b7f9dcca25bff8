"""Evaluators, one contract: `run(embed, source) -> Iterator[(metric name, value)]`."""

from contrastive_jax.evaluation.geometry import Geometry
from contrastive_jax.evaluation.retrieval import Retrieval
from contrastive_jax.evaluation.zero_shot import ZeroShot

KINDS = {"retrieval": Retrieval, "zero_shot": ZeroShot, "geometry": Geometry}

__all__ = ["KINDS", "Geometry", "Retrieval", "ZeroShot"]
