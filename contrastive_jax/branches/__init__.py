"""Branches: encoders, heads and views wired into named embeddings, with teachers and memories beside them."""

from contrastive_jax.branches.graph import Branch, Graph, unit_length
from contrastive_jax.branches.memory import Queue
from contrastive_jax.branches.mixing import mixed
from contrastive_jax.branches.parts import named
from contrastive_jax.branches.teachers import Teacher

MEMORIES = {"queue": Queue}

__all__ = ["MEMORIES", "Branch", "Graph", "Queue", "Teacher", "mixed", "named", "unit_length"]
