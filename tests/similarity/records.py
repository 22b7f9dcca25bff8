"""Records, a tile that uses all that a tile may use, and one scalar with all its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from meshes import whole_matrix

from contrastive_jax.similarity import Dot, Scores


def scores(dots, rows, columns, shared) -> Scores:
    """All that the scores of a Dot tile may use."""
    logits = shared["scale"] * dots + columns["log_weight"][None, :]
    mask = rows["group"][:, None] != columns["group"][None, :]
    same = rows["label"][:, None] == columns["label"][None, :]
    return Scores(logits, mask, same * rows["weight"][:, None], denominator=~same)


TILE = Dot(scores, bound=lambda shared: shared["scale"] + 3)


def side(seed: int, n: int, unit: bool = True):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 5))
    z = z / np.linalg.norm(z, axis=1, keepdims=True) if unit else 3 * z
    return {
        "embedding": jnp.asarray(z),
        "weight": jnp.asarray(rng.random(n)),
        "log_weight": jnp.asarray(rng.normal(size=n)),
        "label": jnp.asarray(rng.integers(0, 4, n)),
        "group": jnp.asarray(rng.integers(0, 9, n)),
    }


def floating(record):
    return {k: v for k, v in record.items() if v.dtype == np.float64}


def objective(reduction, records):
    """Value and gradients of reduction(records, scale) in every floating leaf and the scale."""

    def of_floating(leaves, scale):
        merged = [{**record, **leaf} for record, leaf in zip(records, leaves)]
        return reduction(merged, {"scale": scale})

    leaves = [floating(record) for record in records]
    return jax.jit(jax.value_and_grad(of_floating, (0, 1)))(leaves, jnp.float64(4.0))


def weighted(arrays):
    """One scalar that depends on every output, each with a weight of its own."""
    values = [jnp.where(jnp.isfinite(x), x, 0) for x in arrays]
    return sum(jnp.vdot(x, jnp.cos(jnp.arange(x.size) + i)) for i, x in enumerate(values))


def joined(columns, extras):
    return {k: jnp.concatenate([columns[k], *(e[k] for e in extras)]) for k in columns}


def with_extras(records, shared):
    """What cross_entropy means with further columns: they enter the rows' results and have none."""
    rows, columns, *extras = records
    of_rows = whole_matrix(TILE, rows, joined(columns, extras), shared)
    of_columns = whole_matrix(TILE, rows, columns, shared)
    return [r if i % 2 == 0 else c for i, (r, c) in enumerate(zip(of_rows, of_columns))]
