import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.encoders.heads import KINDS, MLP, Linear
from contrastive_jax.errors import InputError

X = jax.random.normal(jax.random.key(1), (5, 8))


@pytest.mark.parametrize(
    "head", [Linear(features=4), Linear(features=4, bias=True), MLP(features=4, hidden=6, layers=3)]
)
def test_boundary(head):
    params, axes = head.init(jax.random.key(0), X), head.logical_axes(X)
    shapes = jax.tree.map(lambda p: p.ndim, params)
    assert shapes == jax.tree.map(len, axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    z, statistics = head.apply(params, X, train=True, key=None)
    assert z.shape == (5, 4)
    assert statistics == {}


def test_linear_is_a_matrix():
    head = Linear(features=4)
    params = head.init(jax.random.key(0), jax.ShapeDtypeStruct((9, 8), jnp.float32))
    assert jax.tree.map(jnp.shape, params) == {"out": {"kernel": (8, 4)}}
    z, _ = head.apply(params, X, train=False, key=None)
    np.testing.assert_allclose(z, X @ params["out"]["kernel"], atol=1e-5)


def test_mlp_is_matrices_with_gelu_between():
    head = MLP(features=4, hidden=6, layers=3, bias=True)
    params = head.init(jax.random.key(0), X)
    y = X
    for name in ("hidden_0", "hidden_1"):
        y = jax.nn.gelu(y @ params[name]["kernel"] + params[name]["bias"])
    y = y @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(head.apply(params, X, train=False, key=None)[0], y, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "keywords", "words"),
    [
        ("linear", {"features": 0}, "features: 0"),
        ("mlp", {"hidden": -1}, "hidden: -1"),
        ("mlp", {"layers": 1}, "layers: 1 is too few"),
    ],
)
def test_wrong_values_are_refused_by_name(kind, keywords, words):
    with pytest.raises(InputError) as raised:
        KINDS[kind](**keywords)
    assert words in str(raised.value)
