"""What a loss says of itself: its value where all embeddings are alike; and in-batch accuracy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from contrastive_jax.losses import KINDS, Memory
from contrastive_jax.losses.in_batch import in_batch_accuracy

B, SAME = 24, np.ones(8) / np.sqrt(8)
EMBEDDINGS = {
    "a": jnp.broadcast_to(SAME, (B, 8)),
    "b": jnp.broadcast_to(SAME, (B, 8)),
    "several": jnp.broadcast_to(SAME, (B, 3, 8)),
    "memory": Memory(jnp.broadcast_to(SAME, (48, 8))),
}
SIZES = {"several": 3 * B, "memory": 48}
PAIR, QUERY = {"rows": "a", "columns": "b"}, {"queries": "a", "documents": "b"}
LOSSES = {
    "softmax": PAIR,
    "softmax smoothed": PAIR | {"label_smoothing": 0.1},
    "softmax decoupled": PAIR | {"decoupled": True},
    "softmax of rows": PAIR | {"symmetric": False, "negatives": "several"},
    "softmax with more": PAIR | {"negatives": "several", "memory": "memory"},
    "softmax by label": PAIR | {"positives": "label"},
    "sigmoid": PAIR,
    "nt_xent": {"views": ("a", "b")},
    "supervised": {"views": ("several",), "labels": "label"},
    "one_to_k": {"image": "a", "views": ("several",)},
    "one_to_k divided": {"image": "a", "views": ("several",), "divide_texts": True},
    "gte": QUERY,
    "gte with more": QUERY | {"negatives": "several", "documents_to_queries": False},
    "momentum_contrast": {"queries": "a", "keys": "b", "memory": "memory"},
    "matryoshka": {"dims": (4, 8), "weights": (0.5, 2), "loss": KINDS["softmax"](**PAIR)},
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_value_of_a_collapsed_model(name):
    loss = KINDS[name.split(" ")[0]](**LOSSES[name])
    params = loss.init()
    if "bias" in params:  # the best one for it
        params["bias"] = -jnp.log(B - 1.0) - jnp.exp(params["log_scale"])
    fields = {"label": jnp.arange(B) % 7}
    assert float(loss(params, EMBEDDINGS, fields).value) == pytest.approx(loss.at_chance(B, SIZES), rel=1e-5)


@pytest.mark.parametrize("options", [{"margin": 0.1}, {"guide": ("a", "b")}])
def test_losses_whose_value_there_depends_on_more_have_none(options):
    assert KINDS["softmax"](**PAIR, **options).at_chance(B, SIZES) is None
    assert KINDS["cross_correlation"](a="a", b="b").at_chance(B, SIZES) is None


def test_in_batch_accuracy():
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.normal(size=(300, 8)), jnp.float32)
    rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
    columns = rows.at[:64].set(rows[64:128])  # of the 256 rows that are looked at 64 have another's
    accuracy, chance = in_batch_accuracy(rows, columns + 0, None)
    dots = np.asarray(rows @ columns.T)[:256]
    nearest = np.isclose(dots, dots.max(1, keepdims=True), rtol=1e-6)  # one, or one and its copy
    nearest = nearest / nearest.sum(1, keepdims=True)
    assert float(accuracy) == pytest.approx(nearest[np.arange(256), np.arange(256)].mean())
    assert float(chance) == pytest.approx(1 / 300)
    ids = jnp.arange(300) // 2
    accuracy, chance = in_batch_accuracy(rows, columns, ids)
    right = np.equal.outer(np.arange(256) // 2, np.asarray(ids))
    assert float(accuracy) == pytest.approx((nearest * right).sum(1).mean())
    assert float(chance) == pytest.approx(2 / 300)
    for alike, among in ((columns * 0 + SAME, 300), (jnp.repeat(rows[::2], 2, axis=0), 2)):
        accuracy, _ = in_batch_accuracy(alike, alike, None)
        assert float(accuracy) == pytest.approx(1 / among)


def test_in_batch_accuracy_of_a_large_mesh():
    """The same; and how many messages it takes does not depend on how many devices there are."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rng = np.random.default_rng(0)
    rows, columns = (jnp.asarray(rng.normal(size=(512, 8)), jnp.float32) for _ in range(2))
    arguments = rows, columns + rows, jnp.arange(512) // 2
    here = jax.device_put(arguments, NamedSharding(mesh, PartitionSpec("data")))
    program = jax.jit(in_batch_accuracy).lower(*here).compile()
    found, expected = program(*here), in_batch_accuracy(*arguments)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    assert "collective-permute" not in program.as_text()
