"""What papers have added to the softmax loss: each option, and several at once, against the whole matrix."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import draw, is_the_same, random_cases, same, table_cross_entropy, unit

from contrastive_jax import softmax_contrastive

OPTIONS = [
    {"decoupled", "positives", "ignore"},
    {"guide", "positives", "negatives"},
    {"memory", "negatives", "ignore", "present", "log_weights"},
    {"soft", "label_smoothing", "negatives", "weights"},
    {"decoupled", "margin", "label_smoothing", "positives", "memory"},
]
MORE = [
    set(),
    {"angular_margin", "positives"},
    {"positives", "ignore", "present", "label_smoothing"},
    {"log_weights", "weights"},
    {"soft", "decoupled", "ignore"},
    {"guide", "present", "ignore", "weights"},
    *({name} for name in ("margin", "decoupled", "guide", "negatives", "memory", "soft", "weights")),
]


def name_of(options) -> str:
    return "+".join(sorted(options)) or "none"


def turned(cosine, angle):
    """cos(theta + angle), and a straight line where the angle would pass pi."""
    theta = jnp.arccos(jnp.clip(cosine, -1 + 1e-9, 1 - 1e-9))
    return jnp.where(theta < math.pi - angle, jnp.cos(theta + angle), cosine + math.cos(angle) - 1)


class Problem:
    """Random labels for n examples, and what the loss of them is."""

    def __init__(self, options, n: int, seed: int, symmetric: bool):
        rng = np.random.default_rng(seed)
        self.options, self.n, self.symmetric = options, n, symmetric
        ids = rng.integers(0, 5, n) if "positives" in options else np.arange(n)
        soft = rng.dirichlet(np.ones(3), (2, n)) * (rng.random((2, n, 1)) < 0.9)
        pictures, present = rng.integers(0, 6, n), rng.random(n) < 0.8
        self.guides = unit(seed + 7, 2, n, 3)
        self.weights = rng.random((2, n)), rng.normal(size=(2, n))
        values = {
            "positives": jnp.asarray(ids),
            "soft": tuple(soft),
            "ignore": jnp.asarray(pictures),
            "present": jnp.asarray(present),
            "guide": tuple(self.guides),
            "guide_margin": -0.1,
            "weights": tuple(self.weights[0]),
            "margin": 0.3,
            "angular_margin": 0.5,
            "label_smoothing": 0.2,
            "decoupled": True,
        }
        asked = options | ({"guide_margin"} if "guide" in options else set())
        self.keywords = {name: v for name, v in values.items() if name in asked}
        self.targets = soft[0] @ soft[1].T if "soft" in options else same(ids, ids).astype(float)
        self.valid = np.ones((n, n), bool)
        if "ignore" in options:
            self.valid &= ~same(pictures, pictures) | (self.targets > 0)
        if "present" in options:
            self.valid &= present[:, None] & present[None, :]
        self.present = present if "present" in options else np.ones(n, bool)

    def arguments(self, seed: int):
        names = {"log_weights": self.weights[1], "negatives": unit(seed + 2, self.n, 2, 4)}
        further = {name: x for name, x in names.items() if name in self.options}
        memory = {"memory": unit(seed + 3, 7, 4)} if "memory" in self.options else {}
        return unit(seed, self.n, 4), unit(seed + 1, self.n, 4), 4.0, further, memory

    def loss(self, rows, columns, scale, further, memory, engine):
        further = {k: tuple(x) if k == "log_weights" else x for k, x in further.items()}
        return softmax_contrastive(
            rows,
            columns,
            scale=scale,
            symmetric=self.symmetric,
            engine=engine,
            **self.keywords,
            **further,
            **memory,
        )

    def definition(self, rows, columns, scale, further, memory):
        dots, wanted, n = rows @ columns.T, self.targets > 0, self.n
        if "angular_margin" in self.options:
            dots = jnp.where(wanted, turned(dots, 0.5), dots)
        if "margin" in self.options:
            dots = jnp.where(wanted, dots - 0.3, dots)
        extra = jnp.concatenate(
            [jnp.zeros((0, 4)), *(further[k].reshape(-1, 4) for k in ("negatives",) if k in further)]
            + [jax.lax.stop_gradient(x) for x in memory.values()]
        )
        beside = [
            scale * rows @ extra.T,
            jnp.zeros((n, len(extra))),
            self.present[:, None] & jnp.ones((n, len(extra)), bool),
            jnp.ones((n, len(extra)), bool),
        ]
        of_rows = self.direction(scale * dots, self.targets, self.valid, self.guides, 0, further, beside)
        if not self.symmetric:
            return of_rows
        beside = [jnp.zeros((n, 0), x.dtype) for x in beside]
        of_columns = self.direction(
            scale * dots.T, self.targets.T, self.valid.T, self.guides[::-1], 1, further, beside
        )
        return (of_rows + of_columns) / 2

    def direction(self, logits, targets, valid, guides, side, further, beside):
        if "log_weights" in further:
            logits = logits + further["log_weights"][1 - side][None, :]
        if "guide" in self.options:
            found = guides[0] @ guides[1].T
            share = targets * valid / np.maximum((targets * valid).sum(1), 1e-9)[:, None]
            valid = valid & ((targets > 0) | (found <= (share * found).sum(1)[:, None] - 0.1))
        below = ~(targets > 0) if "decoupled" in self.options else np.ones(logits.shape, bool)
        table = (jnp.concatenate(pair, 1) for pair in zip((logits, targets, valid, below), beside))
        smoothing = 0.2 if "label_smoothing" in self.options else 0.0
        weights = self.weights[0][side] if "weights" in self.options else None
        return table_cross_entropy(*table, smoothing=smoothing, weights=weights)


@pytest.mark.parametrize(
    "options", [*OPTIONS, *(pytest.param(o, marks=pytest.mark.slow) for o in MORE)], ids=name_of
)
@random_cases
def test_equals_the_definition(options, seed):
    mesh, n, symmetric = draw(seed, name_of(options), (2, 21), [True, False])
    problem = Problem(options, n, seed, symmetric)
    is_the_same(problem.loss, problem.definition, problem.arguments(seed), mesh, rtol=1e-8)
