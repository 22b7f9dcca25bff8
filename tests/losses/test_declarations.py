"""What every kind of loss declares of itself is what its function does: building a run relies on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.errors import InputError
from contrastive_jax.losses import KINDS, Memory

PAIR = {"rows": "a", "columns": "b"}
GTE = {"queries": "a", "documents": "b"}
MORE = {"negatives": ("c", "n"), "guide": ("g", "h")}
CASES = {
    "softmax": PAIR,
    "softmax with labels": PAIR | {"positives": "label", "label_smoothing": 0.1},
    "softmax with more": PAIR | MORE | {"memory": "m"},
    "softmax with own": PAIR | {"negatives": "n", "own_negatives": 0.1, "symmetric": False},
    "softmax with memory": PAIR | {"memory": "m"},
    "softmax decoupled": PAIR | {"decoupled": True},
    "sigmoid": PAIR,
    "nt_xent": {"views": ("a", "b")},
    "supervised": {"views": ("a", "b", "c"), "labels": "label"},
    "one_to_k": {"image": "a", "views": ("b", "c")},
    "attraction_repulsion": {"views": ("a", "b", "c")},
    "gte": GTE,
    "gte with more": GTE | MORE,
    "momentum_contrast": {"queries": "a", "keys": "b", "memory": "m"},
    "hard_contrastive": PAIR | {"fraction": 1.0},
    "simple_contrastive": PAIR,
    "alignment_uniformity": {"a": "a", "b": "b"},
    "alignment_uniformity aligned": {"a": "a", "b": "b", "uniformity": 0.0},
    "cosine_regression": {"predictions": "a", "targets": "b"},
    "cross_correlation": {"a": "a", "b": "b"},
    "mixed_barlow": {"a": "a", "b": "b", "mixed": "c"},
    "matryoshka": {"dims": (4,), "loss": KINDS["softmax"](**PAIR, **MORE)},
    "symile": {"views": ("a", "b", "c"), "negatives": "all"},
    "symile permuted": {"views": ("a", "b", "c")},
}
every = pytest.mark.parametrize("case", CASES)
MEMORY = 3


def made(case):
    return KINDS[case.partition(" ")[0]](**CASES[case])


def fields(B):
    return {"label": jnp.arange(B), "c.partner": jnp.arange(B)[::-1], "c.share": jnp.float32(0.3)}


def traces(loss, widths, several=()):
    """Whether the loss takes embeddings of these widths, of the branches `several` two an example."""
    B, names = 4, (*loss.branches, *loss.memories)
    given = {}
    for name in names:
        shape = (MEMORY,) if name in loss.memories else (B, 2) if name in several else (B,)
        z = jax.ShapeDtypeStruct((*shape, widths.get(name, 4)), jnp.float32)
        given[name] = Memory(z) if name in loss.memories else z
    try:
        jax.eval_shape(lambda z: loss(loss.init(), z, fields(B)).value, given)
    except (ValueError, TypeError, InputError):
        return False
    return True


def test_every_kind_is_here():
    assert {case.partition(" ")[0] for case in CASES} == set(KINDS)


@every
def test_what_it_compares_has_one_width(case):
    """Any one of a group with another width is refused; a whole group may have another width."""
    loss = made(case)
    groups = [set(group) for group in loss.compared if group]
    if groups:
        groups[0] |= set(loss.memories)
    names = {*loss.branches, *loss.memories}
    assert set().union(*groups) == (names if groups else set())
    for group in groups:
        assert traces(loss, dict.fromkeys(group, 6))
        assert not any(traces(loss, {name: 6}) for name in group)
    if not groups:
        assert all(traces(loss, {name: 6}) for name in names)


@every
def test_which_branches_may_give_several_an_example(case):
    loss = made(case)
    assert {name for name in loss.branches if traces(loss, {}, {name})} == set(loss.grouped)


def is_least_where_all_are_alike(loss, B):
    """Of embeddings that are drawn with a record's views near each other, and those that are one vector."""
    rng, same = np.random.default_rng(0), np.eye(4, dtype=np.float32)[0]
    params = {name: np.float32(0) if name == "bias" else x for name, x in loss.init().items()}
    memories = {name: Memory(jnp.broadcast_to(same, (MEMORY, 4))) for name in loss.memories}

    @jax.jit
    def value(z):
        return loss(params, {**z, **memories}, fields(B)).value

    drawn = []
    for number in range(12):
        one, other = rng.normal(size=(2, B, 4)).astype(np.float32)
        z = {name: other if name == "n" else one + 0.02 * number * other for name in loss.branches}
        drawn.append(value({k: x / np.linalg.norm(x, axis=1, keepdims=True) for k, x in z.items()}))
    return min(drawn) >= value({name: jnp.broadcast_to(same, (B, 4)) for name in loss.branches}) - 1e-5


@every
def test_a_batch_of_one_is_fine_for_losses_that_do_not_need_its_others(case):
    """Where a loss of one example is least when all are alike, it has nothing to tell it from; a loss that is
    so whatever the batch tells nothing apart."""
    loss = made(case)
    tells_apart = not is_least_where_all_are_alike(loss, 2)
    assert is_least_where_all_are_alike(loss, 1) == (loss.needs_others or not tells_apart)
    assert tells_apart or not loss.needs_others
